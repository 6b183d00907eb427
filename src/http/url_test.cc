#include "http/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"

namespace carat {
namespace {

std::string show(const Result<Url>& url) { return url ? url->to_string() : url.error().message; }

TEST(ParseUrl, TakesSchemeHostPortAndTarget) {
  EXPECT_EQ(show(parse_url("http://host")), "http://host/");
  EXPECT_EQ(show(parse_url("HTTPS://Host.Example:443/A?b=C#part")), "https://host.example/A?b=C");
  EXPECT_EQ(show(parse_url("http://h:8080?q")), "http://h:8080/?q");
  EXPECT_EQ(show(parse_url("http://[::1]:81/x")), "http://[::1]:81/x");
  EXPECT_EQ(show(parse_url("https://1.2.3.4:80/")), "https://1.2.3.4:80/");
  const auto url = parse_url("https://[FE80::1]/a");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "fe80::1");
  EXPECT_EQ(url->port, 443);
  EXPECT_TRUE(url->https);
}

TEST(ParseUrl, EscapesWhatHasNoPlaceInATarget) {
  EXPECT_EQ(show(parse_url("http://h/a b\r\nHost: x/\"<>\xc3\xa4%20")),
            "http://h/a%20b%0D%0AHost:%20x/%22%3C%3E%C3%A4%20");
}

TEST(ParseUrl, SaysWhatIsWrong) {
  const std::pair<std::string_view, std::string_view> bad[] = {
      {"", "scheme is missing"},
      {"host/path", "scheme is missing"},
      {"ftp://h/", "http and https"},
      {"http://", "host is missing"},
      {"http://h:0/", "port"},
      {"http://h:x/", "port"},
      {"http://h:/", "port"},
      {"http://h:65536/", "port"},
      {"http://user@h/", "user names"},
      {"http://::1/", "brackets"},
      {"http://[::1/", "']' is missing"},
      {"http://[::1]x/", "only a port"},
      {"http://[v1.x]/", "IPv6 address"},
      {"http://h\xc3\xb6st/", "xn--"},
      {"http://h%31/", "a host has"},
      {"http://a b/", "a host has"},
  };
  for (const auto& [text, reason] : bad)
    EXPECT_THAT(show(parse_url(text)), testing::HasSubstr(std::string(reason))) << text;
  EXPECT_LT(show(parse_url(std::string(5000, 'x'))).size(), 300u) << "a long one is cut";
}

// A host that browsers and libraries read in different ways would be checked as one and asked as the other.
TEST(ParseUrl, ABackslashEndsTheHost) {
  const auto url = parse_url("http://good.example\\.evil.example/");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "good.example");
}

TEST(ResolveUrl, FollowsRfc3986) {
  const auto base = parse_url("https://h:8443/a/b/c?d=e");
  ASSERT_TRUE(base);
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"http://other/x", "http://other/x"},  {"//other/x", "https://other/x"},      {"/x/y?z", "https://h:8443/x/y?z"},
      {"x", "https://h:8443/a/b/x"},         {"?q", "https://h:8443/a/b/c?q"},      {"../x", "https://h:8443/a/x"},
      {"./x/.", "https://h:8443/a/b/x/"},    {"../../../x", "https://h:8443/x"},    {"", "https://h:8443/a/b/c?d=e"},
      {"#part", "https://h:8443/a/b/c?d=e"}, {" x y ", "https://h:8443/a/b/x%20y"}, {"..", "https://h:8443/a/"},
  };
  for (const auto& [reference, expected] : cases) EXPECT_EQ(show(resolve_url(*base, reference)), expected) << reference;
  EXPECT_FALSE(resolve_url(*base, "file:///etc/passwd"));
  EXPECT_FALSE(resolve_url(*base, "javascript:x"));
}

}  // namespace
}  // namespace carat
