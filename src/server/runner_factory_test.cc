#include "server/runner_factory.h"

#include <gmock/gmock.h>

namespace carat {
namespace {

using testing::HasSubstr;

using Gpus = Result<std::vector<GpuInfo>>;

ServerOptions on(DeviceChoice device, int base_gpu_id = 0) {
  ServerOptions options;
  options.device = device;
  options.base_gpu_id = base_gpu_id;
  return options;
}

GpuInfo card(int index, int compute_capability) {
  return {index, "Fake GPU", compute_capability, 132, int64_t{80} << 30};
}

std::string refusal(const ServerOptions& options, const Gpus& gpus) {
  const auto chosen = choose_among(options, gpus);
  return chosen ? "" : chosen.error().message;
}

TEST(ChooseGpu, TakesTheOneThatWasNamed) {
  const Gpus two(std::vector{card(0, 90), card(1, 90)});
  EXPECT_EQ(choose_among(on(DeviceChoice::kAuto), two).value(), 0);
  EXPECT_EQ(choose_among(on(DeviceChoice::kCuda, 1), two).value(), 1);
  EXPECT_EQ(choose_among(on(DeviceChoice::kAuto), Gpus(std::vector{card(0, 100)})).value(), 0) << "later cards too";
  EXPECT_EQ(choose_gpu(on(DeviceChoice::kCpu)).value(), std::nullopt);
}

TEST(ChooseGpu, RefusalsSayWhyAndWhatElse) {
  const ServerOptions cuda = on(DeviceChoice::kCuda);
  EXPECT_THAT(refusal(cuda, Gpus(std::vector<GpuInfo>{})), HasSubstr("libcuda.so.1"));
  EXPECT_THAT(refusal(cuda, Gpus(Error{Errc::kUnsupported, "The driver is old."})),
              HasSubstr("--device cuda: The driver is old. --device cpu"));
  EXPECT_THAT(refusal(cuda, Gpus(std::vector{card(0, 80)})), HasSubstr("has compute capability 8.0"));
  EXPECT_THAT(refusal(cuda, Gpus(std::vector{card(0, 80)})), HasSubstr("need 9.0"));
}

TEST(ChooseGpu, AutoFallsBackUnlessAGpuWasNamed) {
  const ServerOptions any = on(DeviceChoice::kAuto);
  for (const Gpus& gpus :
       {Gpus(std::vector<GpuInfo>{}), Gpus(Error{Errc::kUnavailable, "Broken."}), Gpus(std::vector{card(0, 80)})})
    EXPECT_EQ(choose_among(any, gpus).value(), std::nullopt);
  for (const DeviceChoice device : {DeviceChoice::kAuto, DeviceChoice::kCuda})
    EXPECT_THAT(refusal(on(device, 2), Gpus(std::vector{card(0, 90), card(1, 90)})),
                HasSubstr("--base-gpu-id 2: this machine has 2 GPUs"));
}

}  // namespace
}  // namespace carat
