#pragma once
// Requests of other APIs as bodies of /v1/chat/completions, so that one parser, one template and one set of checks
// serve them all: what the translations share.

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace carat {

/// The `messages` of a chat body, made of conversations whose turns come in pieces.
class ChatTurns {
 public:
  /// A whole message of anybody but the assistant; `content` is text or a list of chat's parts.
  void add(std::string_view role, Json content);
  /// A tool's result.
  void add_result(std::string_view call_id, Json content);

  // Pieces of the assistant's turn, which stays one message until somebody else speaks.
  void add_text(std::string_view text);  ///< after an empty line, if there is text already
  void add_thought(std::string_view text);
  /// `arguments` is an object.
  void add_call(std::string_view id, std::string_view name, Json arguments);
  /// The assistant's turn exists even if none of its pieces came.
  void open_turn() { open_ = true; }

  /// The list. Ends the object's use.
  Json take();

 private:
  void close_turn();

  Json messages_ = Json::array();
  bool open_ = false;
  std::string text_, thought_;
  Json calls_ = Json::array();
};

/// An entry of a chat body's `tools`. Null members are left out.
Json chat_tool(Json name, Json description, Json parameters, Json strict = nullptr);
/// A chat body's `tool_choice` that names a function.
Json chat_tool_choice(Json name);
/// Sets those members of `from` that are there and not null in `to`.
void copy_members(const Json& from, std::initializer_list<std::string_view> names, Json& to);

}  // namespace carat
