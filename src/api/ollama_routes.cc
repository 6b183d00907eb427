// What Ollama's clients ask a server before they generate.

#include "api/api_impl.h"
#include "api/ollama_writer.h"
#include "base/str.h"

namespace carat {
namespace {

void send_json(HttpReply& reply, const Json& json) { reply.send({200, "application/json", json.dump(), {}}); }

Json details(const ModelConfig& config) {
  return Json::object({{"parent_model", ""},
                       {"format", "safetensors"},
                       {"family", config.model_type},
                       {"families", Json::array({config.model_type})},
                       {"parameter_size", ""},
                       {"quantization_level", ""}});
}

}  // namespace

void Api::Impl::ollama_tags(HttpRequest, ReplyPtr reply) {
  const Json entry = Json::object({{"name", settings.served_model_name},
                                   {"model", settings.served_model_name},
                                   {"modified_at", rfc3339_now()},
                                   {"size", model()->weights_bytes},
                                   {"digest", ""},
                                   {"details", details(*model()->config)}});
  send_json(*reply, Json::object({{"models", Json::array({entry})}}));
}

/// There is one model, whatever name the request gives.
void Api::Impl::ollama_show(HttpRequest, ReplyPtr reply) {
  const ServedModel& m = *model();
  const std::string& architecture = m.config->model_type;
  Json info = Json::object({{"general.architecture", architecture}, {"general.name", settings.served_model_name}});
  info.set(architecture + ".context_length", m.context_length);
  info.set(architecture + ".block_count", m.config->text.num_layers);
  info.set(architecture + ".embedding_length", m.config->text.hidden_size);
  Json capabilities = Json::array({"completion"});
  if (media_loader->sees()) capabilities.push_back("vision");
  if (settings.tool_call_parser) capabilities.push_back("tools");
  if (settings.reasoning_parser) capabilities.push_back("thinking");
  send_json(*reply, Json::object({{"license", ""},
                                  {"modelfile", str_cat("FROM ", settings.served_model_name, "\n")},
                                  {"parameters", str_cat("num_ctx ", m.context_length)},
                                  {"template", ""},
                                  {"modified_at", rfc3339_now()},
                                  {"details", details(*m.config)},
                                  {"model_info", std::move(info)},
                                  {"capabilities", std::move(capabilities)}}));
}

void Api::Impl::ollama_version(HttpRequest, ReplyPtr reply) {
  send_json(*reply, Json::object({{"version", settings.version}}));
}

}  // namespace carat
