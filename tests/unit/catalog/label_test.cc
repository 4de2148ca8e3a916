// Goal: a label comes back as written, its bytes are those on file, and whatever else has its size is refused.
#include "catalog/label.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include "../golden.h"
#include "scenario.h"

namespace cenote {
namespace {

using testing::HasSubstr;

RevisionLabel sample() {
  return {.revision = id("r"), .name = "gpt2", .created_us = 1700000000000000, .manifest_bytes = 700, .manifest_blocks = {{id("m"), 700}}};
}

TEST(Label, encoding_is_that_on_file_and_comes_back) {
  const std::string bytes = *encode_label(sample());
  EXPECT_EQ(bytes.size(), kLabelBytes);
  expect_golden("label_v1.bin", bytes);
  EXPECT_EQ(*decode_label(bytes), sample());
}

TEST(Label, the_longest_name_and_manifest_fit) {
  RevisionLabel label = sample();
  label.name = std::string(128, 'x');
  label.manifest_blocks.assign(kLabelManifestBlocksMax, {id("m"), 4 << 20});
  label.manifest_bytes = 64 << 20;
  EXPECT_EQ(*decode_label(*encode_label(label)), label);
  label.manifest_blocks.push_back({id("n"), 1});
  EXPECT_THAT(std::string(encode_label(label).status().message()), HasSubstr("17 blocks, 1 to 16"));
}

TEST(Label, what_no_deploy_writes_is_refused) {
  std::string bytes = *encode_label(sample());
  EXPECT_FALSE(decode_label(bytes.substr(1)).ok());
  EXPECT_FALSE(decode_label(std::string(kLabelBytes, '\0')).ok());
  std::string newer = bytes;
  newer[8] = 2;
  EXPECT_TRUE(absl::IsFailedPrecondition(decode_label(newer).status()));
  bytes.back() = 'x';
  EXPECT_THAT(std::string(decode_label(bytes).status().message()), HasSubstr("after its end"));
  RevisionLabel label = sample();
  label.manifest_bytes = 701;
  EXPECT_FALSE(encode_label(label).ok());
  label = sample();
  label.name = "../x";
  EXPECT_FALSE(encode_label(label).ok());
}

RC_GTEST_PROP(LabelProperty, damage_never_passes_for_another_label, ()) {
  std::string bytes = *encode_label(sample());
  for (int i = *rc::gen::inRange(1, 5); i > 0; --i) bytes[*rc::gen::inRange<size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
  const auto decoded = decode_label(bytes);
  if (decoded.ok()) RC_ASSERT(*encode_label(*decoded) == bytes);
}

}  // namespace
}  // namespace cenote
