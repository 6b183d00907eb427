// Writes a checkpoint with the seeded weights of a configuration, for make_text_golden.py:
//   carat_golden_export CONFIG_FOLDER OUT_FOLDER SEED

#include <cstdio>
#include <cstdlib>

#include "weights/text_weights.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s CONFIG_FOLDER OUT_FOLDER SEED\n", argv[0]);
    return 2;
  }
  const auto run = [&]() -> carat::Result<void> {
    CARAT_TRY(const auto config, carat::load_model_config(argv[1]));
    CARAT_TRY(const auto weights, carat::make_dummy_text_weights(config, std::strtoull(argv[3], nullptr, 10)));
    return carat::write_checkpoint(argv[2], config, *weights);
  };
  if (const auto result = run(); !result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    return 1;
  }
  return 0;
}
