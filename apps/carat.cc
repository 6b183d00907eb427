// The carat program: picks the subcommand.

#include <malloc.h>

#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/bench_engine.h"
#include "apps/chat_engine.h"
#include "apps/licenses.h"
#include "base/str.h"
#include "client/chat_ui.h"
#include "client/load_generator.h"
#include "ops/cpu/level.h"
#include "server/options.h"
#include "server/serve.h"
#include "tensor/cuda/gpu_info.h"
#include "weights/inspect.h"

namespace carat {
namespace {

using Args = std::vector<std::string>;

constexpr std::string_view kUsage =
    "usage: carat COMMAND [ARGS ...]\n\n"
    "  serve     serve a model over HTTP (SGLang's and OpenAI's API)\n"
    "  chat      talk to a model in the terminal: a server's, or one in this process\n"
    "  bench     measure a server as sglang.bench_serving does, or the engine alone\n"
    "  inspect   describe a model folder or hub name: member, sizes, what fits in this machine\n"
    "  version   print the version, and what this build and machine can do\n"
    "  licenses  print the licences of what is built in\n"
    "  help      print this\n\n"
    "`carat serve` without a model serves a small model that is built in. `carat COMMAND --help` says more.\n";

int print(std::FILE* to, std::string_view text, int status) {
  std::fwrite(text.data(), 1, text.size(), to);
  return status;
}

std::string shell_quoted(std::string_view arg) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+";
  if (!arg.empty() && arg.find_first_not_of(kPlain) == std::string_view::npos) return std::string(arg);
  std::string out = "'";
  for (const char c : arg) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// The command as typed, without the values of keys: /server_info shows it.
std::string launch_command(const Args& args) {
  std::string out = "carat serve";
  bool hide = false;
  for (const std::string& arg : args) {
    const bool is_key = arg.starts_with("--api") || arg.starts_with("--admin") || arg.starts_with("--ssl-keyfile-p");
    const size_t equals = arg.find('=');
    out += ' ';
    if (hide)
      out += "***";
    else if (is_key && equals != std::string::npos)
      out += arg.substr(0, equals) + "=***";
    else
      out += shell_quoted(arg);
    hide = !hide && is_key && equals == std::string::npos;
  }
  return out;
}

int run_serve(const Args& args) {
  const ParsedCommandLine parsed = parse_serve_command(args);
  if (!parsed.options) return print(parsed.exit_status == 0 ? stdout : stderr, parsed.text, parsed.exit_status);
  return serve(*parsed.options, launch_command(args));
}

int run_inspect(const Args& args) {
  constexpr std::string_view kInspectUsage = "usage: carat inspect MODEL\n";
  if (args.size() == 1 && (args[0] == "--help" || args[0] == "-h")) return print(stdout, kInspectUsage, 0);
  if (args.size() != 1) return print(stderr, kInspectUsage, 2);
  const auto report = inspect_model(args[0]);
  if (!report) return print(stderr, str_cat("carat inspect: error: ", report.error().message, "\n"), 1);
  return print(stdout, *report, 0);
}

std::string version_text() {
#ifdef __clang__
  constexpr std::string_view kCompiler = "clang " __clang_version__;
#else
  constexpr std::string_view kCompiler = "g++ " __VERSION__;
#endif
  std::string levels;
  for (const ops::cpu::Level level : ops::cpu::available_levels())
    levels += str_cat(levels.empty() ? "" : ", ", to_string(level));
  return str_cat("carat " CARAT_VERSION "\ncompiler      ", kCompiler, "\nGPU code      ",
                 built_with_cuda() ? "CUDA, compute capability 9.0 and later" : "none", "\nCPU kernels   ",
                 to_string(ops::cpu::active_level()), " (of ", levels, " on this machine)\n");
}

int run(std::string_view command, const Args& args) {
  if (command == "serve") return run_serve(args);
  if (command == "chat") return run_chat(args, make_chat_engine);
  if (command == "bench") return run_bench(args, make_bench_engine);
  if (command == "inspect") return run_inspect(args);
  if (command == "version" || command == "--version") return print(stdout, version_text(), 0);
  if (command == "licenses") return print(stdout, license_text(), 0);
  if (command == "help" || command == "--help" || command == "-h") return print(stdout, kUsage, 0);
  return print(stderr, str_cat(kUsage, "\ncarat: error: unknown command '", command, "'\n"), 2);
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  // Few arenas: threads that allocate on one side and free on the other would make the heap grow otherwise.
  mallopt(M_ARENA_MAX, 4);
  if (argc < 2) return carat::print(stderr, carat::kUsage, 2);
  return carat::run(argv[1], carat::Args(argv + 2, argv + argc));
}
