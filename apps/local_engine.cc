#include "apps/local_engine.h"

#include "base/log.h"
#include "base/str.h"

namespace carat {

Result<std::unique_ptr<LocalEngine>> start_local_engine(const std::string& model, std::span<const std::string> args) {
  std::vector<std::string> all;
  if (!model.empty()) all = {"--model-path", model};
  all.insert(all.end(), args.begin(), args.end());
  ParsedCommandLine parsed = parse_serve_command(all);
  if (!parsed.options) return Error{Errc::kInvalidArgument, str_cat("options of the engine: ", parsed.text)};
  auto local = std::make_unique<LocalEngine>();
  local->options = std::move(*parsed.options);
  CARAT_TRY_VOID(check_supported(local->options));
  set_log_level(local->options.log_level);
  for (const std::string& warning : local->options.warnings) log_warning(warning);
  CARAT_TRY(local->model, open_model(local->options));
  CARAT_TRY(local->started, start_engine(local->options, local->model));
  return local;
}

}  // namespace carat
