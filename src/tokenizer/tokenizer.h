#pragma once
// Gemma's tokenizer: BPE with byte fallback over a Hugging Face tokenizer.json. Immutable after loading; any thread.

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"

namespace carat {

class Tokenizer {
 public:
  /// Reads `folder`/tokenizer.json and, if present, tokenizer_config.json (add_bos_token, special token names).
  /// Errors: kNotFound, kIo, kCorruptFile, kUnsupported (a model, normaliser or decoder that is not Gemma's kind),
  /// naming file and field.
  static Result<std::unique_ptr<Tokenizer>> load(const std::filesystem::path& folder);
  /// The same from memory; `config_json` may be empty.
  static Result<std::unique_ptr<Tokenizer>> parse(std::string_view tokenizer_json, std::string_view config_json);
  ~Tokenizer();

  /// Ids of `text`, in near-linear time; special tokens are recognised by their text. Bytes that are no UTF-8 are read
  /// as U+FFFD, as `tokenizers` does for a lossily decoded string. With `add_special_tokens` the tokenizer's own rule
  /// applies (a BOS for base checkpoints).
  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens = false) const;
  /// The text of `ids`; ids outside the vocabulary give nothing. Byte pieces in a row that are together no UTF-8 become
  /// one U+FFFD each, as in `tokenizers`; tokens that are skipped do not end such a row.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  int vocab_size() const;
  /// The bytes that `id` stands for in running text ("▁the" -> " the", "<0x41>" -> "A"); empty for unknown ids.
  std::string_view token_bytes(TokenId id) const;
  /// The piece as the file spells it.
  std::string_view piece(TokenId id) const;
  bool is_special(TokenId id) const;
  /// The id of an exact piece or added token, e.g. "<|turn>".
  std::optional<TokenId> find(std::string_view piece) const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  bool adds_bos() const;
  /// Special tokens of tokenizer_config.json by role, e.g. special("image_token").
  std::optional<TokenId> special(std::string_view role) const;
  /// Chat template carried by tokenizer_config.json, empty if none.
  std::string_view chat_template() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Turns ids into text one by one; never emits part of a character. Equal in sum to Tokenizer::decode of all ids, so a
/// row of byte pieces is held back until it ends: a byte still to come decides whether any of it is text.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  /// Appends to `out` what `id` makes certain.
  void push(TokenId id, std::string& out);
  /// Appends what is still held back.
  void finish(std::string& out);

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;  // the bytes of the row that has not ended
};

}  // namespace carat
