#include "sampling/grammar/string_formats.h"

#include "base/str.h"
#include "sampling/grammar/expressions.h"

namespace carat {
namespace {

// RFC 3339. February 29 in the years that have one.
std::string date() {
  return R"(([1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))|)"
         R"(([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29))";
}

std::string time() { return R"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d))"; }

std::string duration() {
  const std::string time = R"((\d+S|\d+M(\d+S)?|\d+H(\d+M(\d+S)?)?))";
  return str_cat(R"(P(\d+W|(\d+D|\d+M(\d+D)?|\d+Y(\d+M(\d+D)?)?)(T)", time, ")?|T", time, ")");
}

/// Labels between dots, with hyphens inside only.
std::string hostname() {
  const std::string label = "[A-Za-z0-9]+(-+[A-Za-z0-9]+)*";
  return str_cat(label, R"((\.)", label, ")*");
}

std::string email() {
  const std::string atom = R"([A-Za-z0-9_!#$%&'*+/=?^`{|}~-]+)";
  return str_cat(atom, R"((\.)", atom, ")*@", hostname());
}

std::string ipv4() {
  const std::string byte = R"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
  return str_cat("(", byte, R"(\.){3})", byte);
}

std::string ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  std::string out = str_cat("(", group, ":){7}", group, "|(", group, ":){1,7}:|:(:", group, "){1,7}|::");
  for (int behind = 1; behind <= 6; ++behind)
    out += str_cat("|(", group, ":){1,", 7 - behind, "}(:", group, "){1,", behind, "}");
  return out;
}

// RFC 3986.
constexpr char kPathCharacter[] = R"(([A-Za-z0-9_.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}))";

std::string authority_and_path() {
  return str_cat(R"(//(([A-Za-z0-9_.~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?([A-Za-z0-9_.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)",
                 "(:[0-9]*)?(/", kPathCharacter, "*)*");
}

std::string query_and_fragment() {
  const std::string characters = R"(([A-Za-z0-9_.~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)";
  return str_cat(R"((\?)", characters, ")?(#", characters, ")?");
}

std::string uri() {
  return str_cat("[A-Za-z][A-Za-z0-9+.-]*:(", authority_and_path(), "|/?(", kPathCharacter, "+(/", kPathCharacter,
                 "*)*)?)", query_and_fragment());
}

std::string uri_reference() {
  return str_cat("([A-Za-z][A-Za-z0-9+.-]*:)?(", authority_and_path(), "|/(", kPathCharacter, "+(/", kPathCharacter,
                 "*)*)?)", query_and_fragment(), "|([A-Za-z0-9_.~-]+(/", kPathCharacter, "*)*)?", query_and_fragment());
}

/// RFC 6570.
std::string uri_template() {
  const std::string name = "([A-Za-z0-9_]|%[0-9A-Fa-f]{2})+";
  const std::string variable = str_cat(name, R"((\.)", name, R"()*(\*|:[1-9][0-9]{0,3})?)");
  return str_cat(R"(([A-Za-z0-9_.~!$&()*+,;=:@/?#\[\]-]|%[0-9A-Fa-f]{2}|\{[+#./;?&]?)", variable, "(,", variable,
                 R"()*\})*)");
}

/// RFC 6901.
constexpr char kPointer[] = R"((/([^"\\~/\x00-\x1f]|~[01])*)*)";

std::string expression(std::string_view format) {
  if (format == "date") return date();
  if (format == "time") return time();
  if (format == "date-time") return str_cat(date(), "T", time());
  if (format == "duration") return duration();
  if (format == "email") return email();
  if (format == "hostname") return hostname();
  if (format == "ipv4") return ipv4();
  if (format == "ipv6") return ipv6();
  if (format == "uuid") return "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}";
  if (format == "uri") return uri();
  if (format == "uri-reference") return uri_reference();
  if (format == "uri-template") return uri_template();
  if (format == "json-pointer") return kPointer;
  if (format == "relative-json-pointer") return str_cat("(0|[1-9][0-9]*)(#|", kPointer, ")");
  return {};
}

}  // namespace

std::string format_expression(std::string_view format) { return without_options(expression(format)); }

}  // namespace carat
