#pragma once
// JSON Schema as XGrammar's converters take it, so that what they generate is valid. Keywords beside anyOf, oneOf,
// allOf and $ref are merged into them first; what a grammar cannot say is narrowed where a narrower schema is sure to
// be valid.

#include <json_schema_converter.h>

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace carat {

struct SchemaLimits {
  int max_depth = 64;
  int max_schemas = 50000;  ///< read or merged in all
  bool strict = true;       ///< what would not be enforced is an error; else it is passed over
};

/// Reads one document. The document outlives the reader. One thread.
///
/// Objects have the properties that are declared, in their order; others only if additionalProperties,
/// patternProperties or propertyNames speak of them, or if the schema says nothing at all about properties (as SGLang
/// does). Not enforced, and errors where the limits are strict: what check_enforced() names.
class SchemaReader {
 public:
  SchemaReader(const Json& root, SchemaLimits limits) : root_(root), limits_(limits) {}

  /// The whole document. Errors: kInvalidArgument (malformed or over a limit) and kUnsupported (no value can satisfy
  /// it), naming the place.
  Result<xgrammar::SchemaSpecPtr> read() { return read(root_, "schema"); }
  /// What "#/.." refers to.
  Result<xgrammar::SchemaSpecPtr> read_reference(const std::string& uri);

 private:
  using Spec = xgrammar::SchemaSpecPtr;

  Result<Spec> read(const Json& schema, const std::string& where);
  Result<Spec> read_flat(const Json& schema, const std::string& where);
  Result<Spec> read_type(const Json& schema, std::string_view type, const std::string& where);
  Result<Spec> read_options(const Json& schema, std::string_view keyword, const std::string& where);
  Result<Spec> read_enum(const Json& schema, const std::string& where);
  Result<Spec> read_object(const Json& schema, const std::string& where);
  Result<Spec> read_array(const Json& schema, const std::string& where);
  Result<Spec> read_string(const Json& schema, const std::string& where);
  Result<Spec> read_integer(const Json& schema, const std::string& where);
  Result<Spec> read_number(const Json& schema, const std::string& where);
  Result<void> check_enforced(const Json& schema, const std::string& where) const;
  /// Without allOf, and without other keywords beside $ref, anyOf or oneOf.
  Result<Json> flatten(const Json& schema, const std::string& where);
  Result<Json> merge(Json a, const Json& b, const std::string& where);
  Result<const Json*> resolve(const std::string& uri, const std::string& where) const;
  Result<void> count(const std::string& where);

  const Json& root_;
  const SchemaLimits limits_;
  int depth_ = 0;
  int num_schemas_ = 0;
};

}  // namespace carat
