#include "tokenizer/tokenizer.h"

#include <map>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/str.h"
#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/vocabulary.h"

namespace carat {

struct Tokenizer::Impl {
  Vocabulary vocabulary;
  std::optional<Bpe> bpe;
  AddedTokenMatcher added, added_normalized;
  std::vector<bool> special;            // by id
  std::vector<TokenId> prefix, suffix;  // what add_special_tokens adds
  std::map<std::string, TokenId, std::less<>> roles;
  std::string chat_template;
};

namespace {

constexpr std::string_view kFile = "tokenizer.json", kConfigFile = "tokenizer_config.json";
constexpr int64_t kMaxConfigBytes = 16 << 20;

Error corrupt(std::string_view file, std::string_view field, std::string_view what) {
  return Error{Errc::kCorruptFile, str_cat(file, ": ", field, ": ", what)};
}
Error unsupported(std::string_view field, std::string_view what) {
  return Error{Errc::kUnsupported, str_cat(kFile, ": ", field, ": ", what)};
}

Result<Json> parse_file(std::string_view file, std::string_view text, std::span<const JsonSink> sinks = {}) {
  auto json = parse_json(text, sinks);
  if (json && json->is_object()) return json;
  if (json) return corrupt(file, "document", str_cat("is no object, but ", json->kind_name()));
  Error error = std::move(json).error();
  if (error.code == Errc::kInvalidArgument) error.code = Errc::kCorruptFile;
  error.message = str_cat(file, ": ", error.message);
  return error;
}

/// The member, or null.
const Json& get(const Json& object, std::string_view key) {
  static const Json null;
  const Json* found = object.find(key);
  return found ? *found : null;
}
bool is_text(const Json& value, std::string_view text) { return value.is_string() && value.as_string() == text; }
bool is_true(const Json& value) { return value.is_bool() && value.as_bool(); }

// ---- The parts of tokenizer.json. What is checked here is what the code relies on.

/// {"type": "Replace", "pattern": {"String": from}, "content": to}
bool is_replace(const Json& step, std::string_view from, std::string_view to) {
  return is_text(get(step, "type"), "Replace") && is_text(get(get(step, "pattern"), "String"), from) &&
         is_text(get(step, "content"), to);
}

Result<void> check_model(const Json& model) {
  if (!is_text(get(model, "type"), "BPE")) return unsupported("model.type", "only BPE is supported");
  for (std::string_view field : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const Json& value = get(model, field); !value.is_null() && !is_text(value, ""))
      return unsupported(str_cat("model.", field), "must be null");
  if (get(model, "dropout").truthy()) return unsupported("model.dropout", "must be null");
  if (!is_true(get(model, "byte_fallback"))) return unsupported("model.byte_fallback", "must be true");
  if (get(model, "ignore_merges").truthy()) return unsupported("model.ignore_merges", "must be false");
  return {};
}

Result<void> check_text_steps(const Json& root) {
  if (!is_replace(get(root, "normalizer"), " ", kSpaceMark))
    return unsupported("normalizer", "must replace \" \" by \"▁\" and do nothing else");
  // After the normaliser there is no space left to split at, so Gemma's pre-tokenizer does nothing.
  const Json& pre = get(root, "pre_tokenizer");
  if (!pre.is_null() && !(is_text(get(pre, "type"), "Split") && is_text(get(get(pre, "pattern"), "String"), " ") &&
                          !get(pre, "invert").truthy()))
    return unsupported("pre_tokenizer", "must be null or split at \" \"");
  const Json& steps = get(get(root, "decoder"), "decoders");
  if (!is_text(get(get(root, "decoder"), "type"), "Sequence") || steps.size() != 3 || !steps.is_array() ||
      !is_replace(steps.as_array()[0], kSpaceMark, " ") || !is_text(get(steps.as_array()[1], "type"), "ByteFallback") ||
      !is_text(get(steps.as_array()[2], "type"), "Fuse"))
    return unsupported("decoder", "must be the sequence Replace(\"▁\", \" \"), ByteFallback, Fuse");
  return {};
}

Result<void> add_merge(Bpe& bpe, const Json& merge) {
  const auto done = [](Result<void> result) -> Result<void> {
    if (result) return result;
    return Error{result.error().code, str_cat("model.merges: ", result.error().message)};
  };
  if (merge.is_array() && merge.size() == 2 && merge.as_array()[0].is_string() && merge.as_array()[1].is_string())
    return done(bpe.add_merge(merge.as_array()[0].as_string(), merge.as_array()[1].as_string()));
  if (merge.is_string())  // the older form
    if (const auto parts = split(merge.as_string(), ' '); parts.size() == 2)
      return done(bpe.add_merge(parts[0], parts[1]));
  return Error{Errc::kCorruptFile, "model.merges: a merge must be two strings, or one with a space between the two"};
}

/// Reads everything but the two big tables into Json, and these into `vocabulary` and `bpe`.
Result<Json> read_tables(std::string_view text, Vocabulary& vocabulary, std::optional<Bpe>& bpe) {
  const auto add_piece = [&](std::string_view piece, const Json& id) -> Result<void> {
    if (!id.is_int()) return Error{Errc::kCorruptFile, str_cat("model.vocab: the id of \"", piece, "\" is no integer")};
    auto added = vocabulary.add(piece, id.as_int());
    if (!added) return Error{added.error().code, str_cat("model.vocab: ", added.error().message)};
    return {};
  };
  const auto add_next_merge = [&](std::string_view, const Json& merge) -> Result<void> {
    if (vocabulary.size() == 0) return Error{Errc::kUnsupported, "model.merges: must come after model.vocab"};
    if (!bpe) bpe.emplace(vocabulary);
    return add_merge(*bpe, merge);
  };
  const JsonSink sinks[] = {{".model.vocab", add_piece}, {".model.merges", add_next_merge}};
  CARAT_TRY(auto root, parse_file(kFile, text, sinks));
  if (vocabulary.size() == 0) return corrupt(kFile, "model.vocab", "is missing or empty");
  if (!bpe) bpe.emplace(vocabulary);
  if (auto finished = bpe->finish(); !finished) return unsupported("model.vocab", finished.error().message);
  return root;
}

struct AddedTokens {
  std::vector<AddedToken> raw, normalized;
  std::vector<TokenId> special;
};

Result<AddedTokens> read_added_tokens(const Json& list, Vocabulary& vocabulary) {
  AddedTokens result;
  if (list.is_null()) return result;
  if (!list.is_array()) return corrupt(kFile, "added_tokens", "is no array");
  for (const Json& entry : list.as_array()) {
    const Json &content = get(entry, "content"), &id = get(entry, "id");
    if (!content.is_string() || !id.is_int())
      return corrupt(kFile, "added_tokens", "an entry needs a string \"content\" and an integer \"id\"");
    AddedToken token;
    token.content = content.as_string();
    if (token.content.empty()) continue;
    const auto known = vocabulary.find(token.content);
    if (known && *known != id.as_int())
      return corrupt(kFile, "added_tokens",
                     str_cat("\"", token.content, "\" has id ", id.as_int(), ", but ", *known, " in the vocabulary"));
    if (!known)
      if (auto added = vocabulary.add_outside_model(token.content, id.as_int()); !added)
        return corrupt(kFile, "added_tokens", added.error().message);
    token.id = static_cast<TokenId>(id.as_int());
    token.single_word = is_true(get(entry, "single_word"));
    token.lstrip = is_true(get(entry, "lstrip"));
    token.rstrip = is_true(get(entry, "rstrip"));
    if (is_true(get(entry, "special"))) result.special.push_back(token.id);
    if (is_true(get(entry, "normalized"))) {
      // Looked for after normalising, so its own text is normalised too; both with spaces for "▁".
      token.content = spaces_from_marks(token.content);
      result.normalized.push_back(std::move(token));
    } else {
      result.raw.push_back(std::move(token));
    }
  }
  return result;
}

/// The ids that {"type": "TemplateProcessing"} puts before and after a single text.
Result<void> read_post_processor(const Json& post, std::vector<TokenId>& prefix, std::vector<TokenId>& suffix) {
  if (post.is_null()) return {};
  if (!is_text(get(post, "type"), "TemplateProcessing") || !get(post, "single").is_array())
    return unsupported("post_processor", "must be null or TemplateProcessing");
  bool after = false;
  for (const Json& piece : get(post, "single").as_array()) {
    if (piece.contains("Sequence")) {
      if (after) return unsupported("post_processor.single", "must hold the text once");
      after = true;
      continue;
    }
    const Json& name = get(get(piece, "SpecialToken"), "id");
    const Json& ids = get(get(get(post, "special_tokens"), name.is_string() ? name.as_string() : ""), "ids");
    if (!ids.is_array()) return corrupt(kFile, "post_processor.single", "names a special token that is not listed");
    for (const Json& id : ids.as_array()) {
      if (!id.is_int() || id.as_int() < 0 || id.as_int() >= kMaxVocabSize)
        return corrupt(kFile, "post_processor.special_tokens", "has an id that is none");
      (after ? suffix : prefix).push_back(static_cast<TokenId>(id.as_int()));
    }
  }
  if (!after) return unsupported("post_processor.single", "must hold the text once");
  return {};
}

// ---- tokenizer_config.json

/// A special token there is its text, or an object with it.
const std::string* token_text(const Json& value) {
  const Json& text = value.is_object() ? get(value, "content") : value;
  return text.is_string() ? &text.as_string() : nullptr;
}

void read_roles(const Json& config, const Vocabulary& vocabulary, std::map<std::string, TokenId, std::less<>>& roles) {
  for (const auto& [key, value] : config.is_object() ? config.as_object() : JsonObject()) {
    if (key == "extra_special_tokens" || key == "model_specific_special_tokens") {
      read_roles(value, vocabulary, roles);
    } else if (const auto* text = token_text(value); text && key.ends_with("_token")) {
      if (const auto id = vocabulary.find(*text)) roles.insert_or_assign(key, *id);
    }
  }
}

/// A template is a string, or the entry "default" of a list of named ones.
std::string read_chat_template(const Json& value) {
  if (value.is_string()) return value.as_string();
  if (value.is_array())
    for (const Json& entry : value.as_array())
      if (is_text(get(entry, "name"), "default") && get(entry, "template").is_string())
        return get(entry, "template").as_string();
  return {};
}

}  // namespace

// ---- Loading

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::filesystem::path& folder) {
  CARAT_TRY(const auto file, MappedFile::open(folder / kFile));
  auto config = read_text_file(folder / kConfigFile, kMaxConfigBytes);
  if (!config && config.error().code != Errc::kNotFound) return std::move(config).error();
  auto tokenizer = parse(file.text(), config ? *config : std::string());
  if (tokenizer) return tokenizer;
  return Error{tokenizer.error().code, str_cat((folder / "").native(), tokenizer.error().message)};
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::parse(std::string_view tokenizer_json, std::string_view config_json) {
  auto impl = std::make_unique<Impl>();
  CARAT_TRY(const Json root, read_tables(tokenizer_json, impl->vocabulary, impl->bpe));
  CARAT_TRY_VOID(check_model(get(root, "model")));
  CARAT_TRY_VOID(check_text_steps(root));
  CARAT_TRY(auto added, read_added_tokens(get(root, "added_tokens"), impl->vocabulary));
  impl->special.resize(static_cast<size_t>(impl->vocabulary.size()));
  for (TokenId id : added.special) impl->special[static_cast<size_t>(id)] = true;
  impl->added = AddedTokenMatcher(std::move(added.raw), false);
  impl->added_normalized = AddedTokenMatcher(std::move(added.normalized), true);

  Json config = Json::object();
  if (!config_json.empty()) {
    CARAT_TRY(config, parse_file(kConfigFile, config_json));
  }
  // The names that Gemma's tokenizer class gives where the file does not.
  for (std::string_view role : {"bos", "eos", "pad", "unk", "mask"})
    if (const auto id = impl->vocabulary.find(str_cat("<", role, ">")))
      impl->roles.emplace(str_cat(role, "_token"), *id);
  read_roles(config, impl->vocabulary, impl->roles);
  impl->chat_template = read_chat_template(get(config, "chat_template"));

  // The configuration's word on BOS and EOS, where it has one, replaces the file's.
  if (config.contains("add_bos_token") || config.contains("add_eos_token")) {
    const auto add = [&](std::string_view flag, std::string_view role, std::vector<TokenId>& to) {
      if (const auto found = impl->roles.find(role); is_true(get(config, flag)) && found != impl->roles.end())
        to.push_back(found->second);
    };
    add("add_bos_token", "bos_token", impl->prefix);
    add("add_eos_token", "eos_token", impl->suffix);
  } else {
    CARAT_TRY_VOID(read_post_processor(get(root, "post_processor"), impl->prefix, impl->suffix));
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

// ---- Use

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (!is_valid_utf8(text)) return encode(to_valid_utf8(text), add_special_tokens);
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 8);
  const auto push = [&](TokenId id) { ids.push_back(id); };
  const auto encode_normalized = [&](std::string_view part) {
    if (impl_->added_normalized.empty()) return impl_->bpe->encode(part, ids);
    impl_->added_normalized.split(
        part, [&](std::string_view rest) { impl_->bpe->encode(rest, ids); }, push);
  };
  const auto encode_text = [&](std::string_view part) {
    // The normaliser makes "▁" of spaces; here spaces stand for both, so that most text needs no copy.
    if (part.find(kSpaceMark) == std::string_view::npos) return encode_normalized(part);
    encode_normalized(spaces_from_marks(part));
  };
  if (add_special_tokens) ids = impl_->prefix;
  impl_->added.split(text, encode_text, push);
  if (add_special_tokens) ids.insert(ids.end(), impl_->suffix.begin(), impl_->suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  StreamDecoder decoder(*this, skip_special_tokens);
  std::string text;
  text.reserve(ids.size() * 4);
  for (TokenId id : ids) decoder.push(id, text);
  decoder.finish(text);
  return text;
}

int Tokenizer::vocab_size() const { return impl_->vocabulary.size(); }
std::string_view Tokenizer::token_bytes(TokenId id) const { return impl_->vocabulary.text(id); }
std::string_view Tokenizer::piece(TokenId id) const { return impl_->vocabulary.spelling(id); }
bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < impl_->special.size() && impl_->special[static_cast<size_t>(id)];
}
std::optional<TokenId> Tokenizer::find(std::string_view piece) const { return impl_->vocabulary.find(piece); }
std::optional<TokenId> Tokenizer::bos() const { return special("bos_token"); }
std::optional<TokenId> Tokenizer::eos() const { return special("eos_token"); }
bool Tokenizer::adds_bos() const { return bos() && !impl_->prefix.empty() && impl_->prefix.front() == *bos(); }
std::optional<TokenId> Tokenizer::special(std::string_view role) const {
  const auto found = impl_->roles.find(role);
  return found == impl_->roles.end() ? std::nullopt : std::optional(found->second);
}
std::string_view Tokenizer::chat_template() const { return impl_->chat_template; }

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

void StreamDecoder::push(TokenId id, std::string& out) {
  const std::string_view piece = tokenizer_->piece(id);
  if (piece.empty() || (skip_special_tokens_ && tokenizer_->is_special(id))) return;
  const std::string_view text = tokenizer_->token_bytes(id);
  if (byte_of_piece(piece)) {
    pending_ += text;
    return;
  }
  finish(out);
  out += text;
}

void StreamDecoder::finish(std::string& out) {
  if (pending_.empty()) return;
  if (is_valid_utf8(pending_))
    out += pending_;
  else
    for (size_t i = 0; i < pending_.size(); ++i) out += kReplacementUtf8;
  pending_.clear();
}

}  // namespace carat
