#include "sampling/grammar/grammar_compiler.h"

#include <grammar_builder.h>
#include <grammar_functor.h>

#include <algorithm>
#include <bitset>
#include <condition_variable>
#include <deque>
#include <future>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include <sys/resource.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "base/thread_name.h"
#include "sampling/grammar/expressions.h"
#include "sampling/grammar/grammar_impl.h"
#include "sampling/grammar/schema_grammar.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

using Clock = std::chrono::steady_clock;
using GrammarPtr = GrammarCompiler::GrammarPtr;
using Kind = GrammarSource::Kind;

/// Regular expressions and EBNF are shorter than schemas, and every byte of them costs more.
constexpr size_t kMaxExpressionBytes = 64 << 10;

Error bad(std::string message) { return {Errc::kInvalidArgument, std::move(message)}; }

struct SourceHash {
  size_t operator()(const GrammarSource& source) const {
    return hash_bytes(source.text, static_cast<uint64_t>(source.kind));
  }
};

/// Text for the tokens that grammars know by id alone. No UTF-8 contains it, so nothing that is text can match it.
constexpr char kMarkText[] = "\xFF";

xgrammar::TokenizerInfo tokenizer_info(const GrammarVocabulary& vocabulary) {
  std::vector<std::string> pieces = vocabulary.pieces;
  for (const auto& mark : {vocabulary.call_close, vocabulary.string_mark})
    if (mark) pieces.at(static_cast<size_t>(*mark)) = kMarkText;
  pieces.insert(pieces.end(), kMaxTexts, kMarkText);
  return xgrammar::TokenizerInfo(pieces, xgrammar::VocabType::RAW, std::nullopt, std::vector<int32_t>{});
}

/// Expressions inside of a structural tag as without_options() wants them.
void replace_options(Json& value) {
  if (value.is_array())
    for (Json& item : value.as_array()) replace_options(item);
  if (!value.is_object()) return;
  const Json* const type = value.find("type");
  Json* const pattern = value.find("pattern");
  if (pattern && pattern->is_string() && type && *type == Json("regex"))
    *pattern = without_options(pattern->as_string());
  for (auto& [key, member] : value.as_object())
    if (key != "json_schema") replace_options(member);
}

/// The form that structural tags had first: {"structures": [{"begin", "schema", "end"}], "triggers": [..]}.
Result<std::string> structural_tag_text(const std::string& text, int max_depth) {
  CARAT_TRY(const Json tag, parse_json(text, {max_depth}));
  if (!tag.is_object()) return bad(str_cat("a structural tag must be an object, got ", tag.kind_name()));
  const Json* structures = tag.find("structures");
  if (!structures) {
    Json typed = tag;
    replace_options(typed);
    typed.set("type", "structural_tag");
    return typed.dump();
  }
  const Json* triggers = tag.find("triggers");
  if (!structures->is_array() || !triggers || !triggers->is_array())
    return bad("a structural tag has lists of structures and triggers");
  Json tags = Json::array();
  for (const Json& structure : structures->as_array()) {
    const Json* begin = structure.find("begin");
    const Json* end = structure.find("end");
    if (!begin || !begin->is_string() || !end || !end->is_string())
      return bad("each of a structural tag's structures has a begin and an end");
    const Json* schema = structure.find("schema");
    tags.push_back(Json::object(
        {{"type", "tag"},
         {"begin", *begin},
         {"content", Json::object({{"type", "json_schema"}, {"json_schema", schema ? *schema : Json::object()}})},
         {"end", *end}}));
  }
  return Json::object({{"type", "structural_tag"},
                       {"format", Json::object({{"type", "triggered_tags"}, {"triggers", *triggers}, {"tags", tags}})}})
      .dump();
}

/// How many tokens begin with which bytes.
class TokenBeginnings {
 public:
  explicit TokenBeginnings(const std::vector<std::string>& pieces) : below_(256 * kRow) {
    for (const std::string& piece : pieces)
      if (!piece.empty()) ++below_[index(byte(piece[0]), piece.size() > 1 ? byte(piece[1]) + 1 : 0)];
    for (int first = 0; first < 256; ++first)
      for (int second = 0; second < 256; ++second) below_[index(first, second + 1)] += below_[index(first, second)];
  }
  /// Tokens that begin with `first` and go on with one of low .. high.
  int64_t with(int first, int low, int high) const {
    return below_[index(first, high + 1)] - below_[index(first, low)];
  }

 private:
  static constexpr size_t kRow = 257;
  static int byte(char c) { return static_cast<unsigned char>(c); }
  static size_t index(int first, int below) { return static_cast<size_t>(first) * kRow + static_cast<size_t>(below); }

  std::vector<int64_t> below_;  ///< by first byte: tokens of one byte, then those whose second byte is below 1, 2, ..
};

/// What compiling a grammar, whose automatons are made, costs: each state is compared with the tokens whose first two
/// bytes it takes.
class CompileWork {
 public:
  CompileWork(const xgrammar::Grammar& grammar, const TokenBeginnings& tokens)
      : grammar_(grammar), tokens_(tokens), first_(grammar->per_rule_fsms.size()) {}

  int64_t comparisons() {
    int64_t sum = 0;
    for (const auto& rule : grammar_->per_rule_fsms) {
      if (!rule) continue;
      const auto& automaton = rule->GetFsm();
      std::unordered_set<int> states;
      automaton.GetReachableStates(&states);
      for (const int state : states)
        for (const auto& edge : automaton.GetFsm().GetEdges(state))
          if (edge.IsCharRange()) sum += of_edge(edge, bytes_at(automaton.GetFsm(), edge.target));
    }
    return sum;
  }

 private:
  using Bytes = std::bitset<256>;

  int64_t of_edge(const xgrammar::FSMEdge& edge, const Bytes& next) const {
    int64_t sum = 0;
    for (int low = 0; low < 256; ++low) {
      if (!next[static_cast<size_t>(low)]) continue;
      int high = low;
      while (high < 255 && next[static_cast<size_t>(high) + 1]) ++high;
      for (int first = edge.min; first <= std::min<int>(edge.max, 255); ++first) sum += tokens_.with(first, low, high);
      low = high;
    }
    return sum;
  }

  /// What a state takes, by itself or by the rules that it leads into.
  Bytes bytes_at(const xgrammar::CompactFSM& automaton, int state) {
    Bytes out;
    std::unordered_set<int> states{state};
    automaton.GetEpsilonClosure(&states);
    for (const int at : states)
      for (const auto& edge : automaton.GetEdges(at)) {
        if (edge.IsCharRange())
          for (int byte = edge.min; byte <= std::min<int>(edge.max, 255); ++byte) out.set(static_cast<size_t>(byte));
        if (edge.IsRuleRef()) out |= first_bytes(edge.GetRefRuleId());
        if (edge.IsRepeatRef()) out |= first_bytes(automaton.GetRepeatEdgeInfo(edge.GetAuxIndex()).RuleId());
      }
    return out;
  }

  Bytes first_bytes(int32_t rule) {
    auto& known = first_.at(static_cast<size_t>(rule));
    const auto& automaton = grammar_->per_rule_fsms[static_cast<size_t>(rule)];
    if (!known && automaton) {
      known.emplace();  // rules that lead into themselves
      known = bytes_at(automaton->GetFsm().GetFsm(), automaton->GetFsm().GetStart());
    }
    return known.value_or(Bytes());
  }

  const xgrammar::Grammar& grammar_;
  const TokenBeginnings& tokens_;
  std::vector<std::optional<Bytes>> first_;  ///< by rule
};

/// As one automaton where that can be. XGrammar's other way goes through text in which hexadecimal digits behind some
/// characters become part of them. May throw.
xgrammar::Grammar regex_grammar(const std::string& regex) {
  if (!xgrammar::GrammarFSMBuilder::Regex(regex).IsOk()) return xgrammar::Grammar::FromRegex(regex);
  xgrammar::GrammarBuilder builder;
  const int32_t root = builder.AddRule("root", builder.AddRegex(regex));
  return xgrammar::GrammarNormalizer::Apply(builder.Get(root));
}

Result<std::vector<CallableTool>> read_tools(const std::string& text, int max_depth) {
  CARAT_TRY(const Json list, parse_json(text, {max_depth}));
  if (!list.is_array() || list.size() == 0) return bad("tool calls need a tool");
  std::vector<CallableTool> tools;
  for (const Json& item : list.as_array()) {
    const Json* name = item.find("name");
    if (!name || !name->is_string()) return bad("a tool has a name");
    const Json* parameters = item.find("parameters");
    Json schema = parameters && !parameters->is_null() ? *parameters : Json::object({{"properties", Json::object()}});
    if (schema.is_object() && !schema.contains("type")) schema.set("type", "object");
    if (name->as_string().find_first_of(" \t\r\n{(") != std::string::npos || name->as_string().empty())
      return bad(
          str_cat("the name of tool '", name->as_string(), "' must not be empty or have white space, '{' or '('"));
    tools.push_back({name->as_string(), std::move(schema)});
  }
  return tools;
}

}  // namespace

/// Requests for one source that is being compiled, and what is known of sources compiled before.
struct GrammarCompiler::Impl {
  struct Job {
    std::vector<Done> waiting;  ///< empty once they have been told that it takes too long
    Clock::time_point deadline;
  };
  struct Entry {
    Result<GrammarPtr> result;
    int64_t bytes;
    std::list<GrammarSource>::iterator place;
  };

  Impl(GrammarVocabulary v, GrammarOptions o, GrammarMetrics m)
      : options(o),
        metrics(m),
        vocabulary(std::move(v)),
        beginnings(vocabulary.pieces),
        json_texts(std::make_shared<TextTokens>(vocabulary.pieces, TextStyle::kJson)),
        call_texts(std::make_shared<TextTokens>(vocabulary.pieces, TextStyle::kPlain)),
        info(tokenizer_info(vocabulary)),
        compiler(info, 1, false) {
    vocab_size = static_cast<int>(vocabulary.pieces.size());
    vocabulary.pieces = {};
    for (int i = 0; i < std::max(o.threads, 1); ++i) threads.emplace_back([this, i] { work(i); });
    threads.emplace_back([this] { watch(); });
  }

  ~Impl() {
    std::vector<Done> unanswered;
    {
      const std::lock_guard lock(mutex);
      stopping = true;
      for (auto& [source, job] : jobs) move_waiting(job, unanswered);
      queue.clear();
    }
    wake.notify_all();
    timer.notify_all();
    for (const Done& done : unanswered) done(Error{Errc::kUnavailable, "the server is shutting down"});
    for (std::thread& thread : threads) thread.join();
  }

  void move_waiting(Job& job, std::vector<Done>& to) {
    num_waiting -= static_cast<int>(job.waiting.size());
    std::move(job.waiting.begin(), job.waiting.end(), std::back_inserter(to));
    job.waiting.clear();
  }

  void compile(GrammarSource source, Done done);
  const Result<GrammarPtr>* find(const GrammarSource& source);
  void keep(const GrammarSource& source, const Result<GrammarPtr>& result);
  void work(int index);
  void watch();
  Result<GrammarPtr> make(const GrammarSource& source);
  xgrammar::Grammar parse(const GrammarSource& source, CountedTexts& texts);
  Result<void> check(const GrammarSource& source) const;
  void tell(const std::vector<Done>& waiting, const Result<GrammarPtr>& result) {
    if (!result && metrics.aborted) metrics.aborted->add(static_cast<double>(waiting.size()));
    for (const Done& done : waiting) done(result);
  }

  const GrammarOptions options;
  const GrammarMetrics metrics;
  GrammarVocabulary vocabulary;  ///< without the pieces
  int vocab_size = 0;
  const TokenBeginnings beginnings;
  const std::shared_ptr<const TextTokens> json_texts, call_texts;
  const xgrammar::TokenizerInfo info;
  /// Thread-safe. Without its own cache: that prints grammars and reads them again, and changes some on the way.
  xgrammar::GrammarCompiler compiler;

  mutable std::mutex mutex;  ///< guards what follows
  std::condition_variable wake, timer;
  std::unordered_map<GrammarSource, Job, SourceHash> jobs;
  std::deque<GrammarSource> queue;  ///< of jobs that no thread has taken
  std::unordered_map<GrammarSource, Entry, SourceHash> cache;
  std::list<GrammarSource> order;  ///< of the cache, newest use first
  int64_t cached_bytes = 0;
  int num_waiting = 0;
  bool stopping = false;

  std::vector<std::thread> threads;
};

GrammarCompiler::GrammarCompiler(GrammarVocabulary vocabulary, GrammarOptions options, GrammarMetrics metrics)
    : impl_(std::make_unique<Impl>(std::move(vocabulary), options, metrics)) {}
GrammarCompiler::~GrammarCompiler() = default;

void GrammarCompiler::compile(GrammarSource source, Done done) { impl_->compile(std::move(source), std::move(done)); }

Result<GrammarPtr> GrammarCompiler::compile_now(GrammarSource source) {
  std::promise<Result<GrammarPtr>> promise;
  compile(std::move(source), [&](Result<GrammarPtr> result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

int GrammarCompiler::num_waiting() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->num_waiting;
}

const GrammarOptions& GrammarCompiler::options() const { return impl_->options; }

// ---- Who waits for what

void GrammarCompiler::Impl::compile(GrammarSource source, Done done) {
  if (metrics.compiled) metrics.compiled->add();
  if (const auto fine = check(source); !fine) return tell({std::move(done)}, fine.error());
  std::unique_lock lock(mutex);
  if (const Result<GrammarPtr>* known = find(source)) {
    const Result<GrammarPtr> result = *known;
    lock.unlock();
    if (metrics.cache_hits) metrics.cache_hits->add();
    return tell({std::move(done)}, result);
  }
  if (stopping) {
    lock.unlock();
    return tell({std::move(done)}, Error{Errc::kUnavailable, "the server is shutting down"});
  }
  auto job = jobs.find(source);
  if (job == jobs.end()) {
    if (queue.size() >= options.max_queued) {
      lock.unlock();
      return tell({std::move(done)},
                  Error{Errc::kOverloaded, str_cat("too many grammars wait to be compiled: ", options.max_queued)});
    }
    queue.push_back(source);
    job = jobs.emplace(std::move(source), Job{{}, Clock::now() + options.timeout}).first;
  }
  job->second.waiting.push_back(std::move(done));
  ++num_waiting;
  lock.unlock();
  wake.notify_one();
  timer.notify_one();
}

void GrammarCompiler::Impl::work(int index) {
  set_thread_name(str_cat("grammar-", index));
  setpriority(PRIO_PROCESS, 0, 10);  // of this thread: engine and io come first
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [&] { return stopping || !queue.empty(); });
    if (stopping) return;
    const GrammarSource source = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    const auto begin = Clock::now();
    const Result<GrammarPtr> result = make(source);
    if (metrics.seconds) metrics.seconds->observe(std::chrono::duration<double>(Clock::now() - begin).count());
    lock.lock();
    std::vector<Done> waiting;
    if (const auto job = jobs.find(source); job != jobs.end()) {
      move_waiting(job->second, waiting);
      jobs.erase(job);
    }
    keep(source, result);
    lock.unlock();
    tell(waiting, result);
    lock.lock();
  }
}

/// Answers those who have waited too long. Their job stays, so that nobody starts it again.
void GrammarCompiler::Impl::watch() {
  set_thread_name("grammar-timer");
  std::unique_lock lock(mutex);
  while (!stopping) {
    const auto now = Clock::now();
    std::optional<Clock::time_point> next;
    std::vector<Done> late;
    for (auto& [source, job] : jobs) {
      if (job.waiting.empty()) continue;
      if (job.deadline <= now)
        move_waiting(job, late);
      else if (!next || job.deadline < *next)
        next = job.deadline;
    }
    if (!late.empty()) {
      lock.unlock();
      tell(late, bad(str_cat("the grammar was not compiled within ", options.timeout.count(), " ms")));
      lock.lock();
    } else if (next) {
      timer.wait_until(lock, *next);
    } else {
      timer.wait(lock);
    }
  }
}

const Result<GrammarPtr>* GrammarCompiler::Impl::find(const GrammarSource& source) {
  const auto entry = cache.find(source);
  if (entry == cache.end()) return nullptr;
  order.splice(order.begin(), order, entry->second.place);
  return &entry->second.result;
}

void GrammarCompiler::Impl::keep(const GrammarSource& source, const Result<GrammarPtr>& result) {
  if (cache.contains(source)) return;
  order.push_front(source);
  const int64_t bytes = static_cast<int64_t>(2 * source.text.size()) + (result ? (*result)->memory_bytes() : 1024);
  cache.emplace(source, Entry{result, bytes, order.begin()});
  cached_bytes += bytes;
  while (order.size() > 1 &&
         (order.size() > static_cast<size_t>(options.max_cached) || cached_bytes > options.max_cached_bytes)) {
    const auto oldest = cache.find(order.back());
    cached_bytes -= oldest->second.bytes;
    cache.erase(oldest);
    order.pop_back();
  }
}

// ---- From source to grammar

/// What costs nothing to find out.
Result<void> GrammarCompiler::Impl::check(const GrammarSource& source) const {
  const bool expression = source.kind == Kind::kRegex || source.kind == Kind::kEbnf;
  const size_t most = expression ? std::min(kMaxExpressionBytes, options.max_source_bytes) : options.max_source_bytes;
  if (source.text.size() > most)
    return bad(str_cat("the grammar has ", source.text.size(), " bytes, over the limit of ", most));
  if (expression || source.kind == Kind::kStructuralTag) CARAT_TRY_VOID(check_escapes(source.text, "grammar"));
  if (source.kind == Kind::kCalls && !(vocabulary.call_close && vocabulary.string_mark))
    return bad("the model has no tokens for tool calls");
  return {};
}

/// May throw.
xgrammar::Grammar GrammarCompiler::Impl::parse(const GrammarSource& source, CountedTexts& texts) {
  // Tools are declared, not promised: what a grammar cannot say about their arguments is left to the model, as under
  // SGLang all of it is.
  const SchemaLimits limits{options.max_depth, options.max_schema_nodes, source.kind == Kind::kJsonSchema};
  switch (source.kind) {
    case Kind::kAnyJson:
    case Kind::kJsonSchema: {
      const Json schema = source.kind == Kind::kAnyJson
                              ? Json::object({{"type", "object"}})
                              : value_or_throw(parse_json(source.text, {2 * options.max_depth}));
      return xgrammar::GrammarNormalizer::Apply(
          make_json_grammar(schema, limits, {options.any_whitespace, options.max_whitespace}, texts));
    }
    case Kind::kRegex:
      return regex_grammar(without_options(source.text));
    case Kind::kEbnf:
      return xgrammar::Grammar::FromEBNF(source.text);
    case Kind::kStructuralTag: {
      const auto made = xgrammar::Grammar::FromStructuralTag(
          value_or_throw(structural_tag_text(source.text, options.max_depth)), info);
      if (const auto* grammar = std::get_if<xgrammar::Grammar>(&made)) return *grammar;
      return std::visit([](const auto& error) -> xgrammar::Grammar { throw error; },
                        std::get<xgrammar::StructuralTagError>(made));
    }
    case Kind::kCalls:
      return xgrammar::GrammarNormalizer::Apply(
          make_call_grammar(value_or_throw(read_tools(source.text, 2 * options.max_depth)), limits,
                            *vocabulary.string_mark, *vocabulary.call_close, texts));
  }
  throw std::runtime_error("unknown kind of grammar");
}

Result<GrammarPtr> GrammarCompiler::Impl::make(const GrammarSource& source) {
  return grammar_try([&]() -> GrammarPtr {
    CountedTexts texts{vocab_size, {}};
    const xgrammar::Grammar grammar = parse(source, texts);
    const xgrammar::Grammar automatons = xgrammar::GrammarOptimizer::Apply(grammar);
    const int states = automatons->complete_fsm.NumStates();
    if (states > options.max_states)
      throw std::runtime_error(
          str_cat("the grammar is too large: ", states, " states, over the limit of ", options.max_states));
    if (const int64_t work = CompileWork(automatons, beginnings).comparisons(); work > options.max_work)
      throw std::runtime_error(str_cat("the grammar is too large: its ", states, " states take ", work,
                                       " comparisons with tokens, over the limit of ", options.max_work));
    auto impl = std::make_unique<Grammar::Impl>(Grammar::Impl{compiler.CompileGrammar(grammar),
                                                              {},
                                                              vocab_size,
                                                              std::move(texts.bounds),
                                                              source.kind == Kind::kCalls ? call_texts : json_texts});
    if (source.kind != Kind::kCalls)
      for (const auto& mark : {vocabulary.call_close, vocabulary.string_mark})
        if (mark) impl->barred.push_back(*mark);
    auto compiled = std::make_shared<const Grammar>(std::move(impl));
    GrammarMatcher matcher(*compiled);
    std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocab_size)));
    matcher.fill_mask(mask);
    if (mask_empty(mask) && !matcher.complete()) throw std::runtime_error("no answer can satisfy the grammar");
    return compiled;
  });
}

}  // namespace carat
