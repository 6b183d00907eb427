// How many events a second of CPU time one thread of the load generator takes in.
//
//   carat_load_generator_bench [streams, default 500] [tokens, default 400]
//
// A server in the same process sends each stream one event per step, as an engine does, and takes the next step when
// the last has been written. /generate repeats the text of 4 bytes a token, the OpenAI protocols send deltas.
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "base/str.h"
#include "client/load_generator.h"
#include "http/server.h"
#include "http/test_socket.h"

namespace carat {
namespace {

double cpu_of_this_thread() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::string event(BenchProtocol protocol, int token, const std::string& text) {
  switch (protocol) {
    case BenchProtocol::kGenerate:
      return str_cat(
          "data: {\"text\":\"", text,
          "\",\"output_ids\":[1234],\"meta_info\":{\"id\":\"0123456789abcdef0123456789abcdef\",",
          "\"finish_reason\":null,\"prompt_tokens\":512,\"weight_version\":\"default\",\"num_retractions\":0,",
          "\"completion_tokens\":", token, ",\"cached_tokens\":0}}\n\n");
    case BenchProtocol::kCompletions:
      return "data: {\"id\":\"0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\",\"created\":1750000000,"
             "\"model\":\"google/gemma-4-E2B-it\",\"choices\":[{\"index\":0,\"text\":\"abc \",\"logprobs\":null,"
             "\"finish_reason\":null,\"matched_stop\":null}]}\n\n";
    case BenchProtocol::kChat:
      break;
  }
  return "data: "
         "{\"id\":\"0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,"
         "\"model\":\"google/gemma-4-E2B-it\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":null,"
         "\"content\":\"abc \"},\"logprobs\":null,\"finish_reason\":null,\"matched_stop\":null}]}\n\n";
}

void measure(BenchProtocol protocol, const char* name, int num_streams, int num_tokens) {
  std::mutex mutex;
  std::vector<std::shared_ptr<HttpReply>> streams;
  const auto server = HttpServer::start({.port = 0, .max_stream_backlog = int64_t{1} << 32},
                                        [&](HttpRequest, std::shared_ptr<HttpReply> reply) {
                                          reply->begin_stream({.content_type = "text/event-stream"});
                                          const std::lock_guard lock(mutex);
                                          streams.push_back(std::move(reply));
                                        });
  CARAT_CHECK(server.has_value(), "no server");
  const auto backend = make_bench_http(
      {.protocol = protocol, .base = {.host = "127.0.0.1", .port = (*server)->port(), .path = ""}, .model = "m"});
  const std::vector<BenchRequest> requests(static_cast<size_t>(num_streams),
                                           {.prompt = "x", .prompt_len = 1, .output_len = num_tokens});
  std::thread engine([&] {
    const auto ready = [&] {
      const std::lock_guard lock(mutex);
      return streams.size() == requests.size();
    };
    while (!ready()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::string text;
    for (int token = 1; token <= num_tokens; ++token) {
      text += "abc ";
      const auto bytes = event(protocol, token, text);
      std::atomic<bool> done{false};
      (*server)->post(0, [&] {
        for (const auto& stream : streams) stream->write(bytes);
        done = true;
      });
      while (!done) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    for (const auto& stream : streams) {
      stream->write("data: [DONE]\n\n");
      stream->end();
    }
  });
  NumpyRandom random(1);
  std::atomic<double> cpu{0};
  const double begin = bench_now();
  const auto outputs = run_load(*backend, requests, {}, 0, random, [&](int) { cpu = cpu_of_this_thread(); });
  const double wall = bench_now() - begin;
  engine.join();
  for (const auto& o : outputs) CARAT_CHECK(o.success && o.output_len == num_tokens, o.error);
  const double events = static_cast<double>(num_streams) * num_tokens;
  std::printf("%-16s  %9.0f events/s, client %9.0f events/CPU-sec, %.2f us each\n", name, events / wall, events / cpu,
              1e6 * cpu / events);
  std::fflush(stdout);
  streams.clear();
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  const int num_streams = argc > 1 ? std::atoi(argv[1]) : 500, num_tokens = argc > 2 ? std::atoi(argv[2]) : 400;
  carat::raise_file_limit(20000);
  carat::measure(carat::BenchProtocol::kGenerate, "sglang", num_streams, num_tokens);
  carat::measure(carat::BenchProtocol::kCompletions, "sglang-oai", num_streams, num_tokens);
  carat::measure(carat::BenchProtocol::kChat, "sglang-oai-chat", num_streams, num_tokens);
}
