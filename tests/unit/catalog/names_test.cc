// Goal: a model reference means one thing, and anything else is refused with the text, the limit and an
// example.
#include "catalog/names.h"

#include <gtest/gtest.h>

namespace cenote {
namespace {

TEST(Names, a_bare_name_means_the_latest_tag) {
  const ModelRef ref = *parse_model_ref("gpt2");
  EXPECT_EQ(ref.tag, "latest");
  EXPECT_FALSE(ref.tag_written);
  EXPECT_TRUE(ref.digest_prefix.empty());
}

TEST(Names, tags_and_digest_prefixes_are_told_apart) {
  EXPECT_EQ(parse_model_ref("a.b_c-1:v2")->tag, "v2");
  EXPECT_TRUE(parse_model_ref("a:latest")->tag_written);
  EXPECT_EQ(parse_model_ref("a@ABCDEF")->digest_prefix, "abcdef");
  EXPECT_EQ(parse_model_ref("a@" + std::string(64, '0'))->digest_prefix.size(), 64u);
}

TEST(Names, whatever_else_is_refused) {
  for (const std::string& text :
       {std::string(), std::string(":v"), std::string("a:"), std::string("a@"), std::string("a@12345"),
        std::string("a@xyzxyz"), std::string("-a"), std::string("../a"), std::string("a b"),
        std::string("a:b:c"), std::string("a@" + std::string(65, '0')), std::string(129, 'a'),
        "a:" + std::string(65, 'b'), std::string("a\0b", 3), std::string("\xc3\xa4")}) {
    EXPECT_FALSE(parse_model_ref(text).ok()) << text;
  }
  EXPECT_TRUE(check_model_name(std::string(128, 'a')).ok());
}

}  // namespace
}  // namespace cenote
