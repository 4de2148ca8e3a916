// Goal: a program without libtorch gets an engine from the plug-in beside it, and whatever is no such plug-in is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "execute/model.h"

namespace cenote::execute {
namespace {

using testing::HasSubstr;

bool torch_is_loaded() {
  std::ifstream maps("/proc/self/maps");
  const std::string text((std::istreambuf_iterator<char>(maps)), {});
  return text.find("libtorch_cpu") != std::string::npos;
}

TEST(OpenEngine, brings_libtorch_only_when_opened) {
  EXPECT_FALSE(torch_is_loaded());
  const auto engine = open_engine({.threads = 1});
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE(torch_is_loaded());
  EXPECT_STREQ(std::getenv("OMP_WAIT_POLICY"), "passive");
}

TEST(OpenEngine, passes_on_what_the_engine_refuses) {
  EXPECT_EQ(open_engine({.threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(OpenEngine, refuses_a_file_that_is_missing_no_library_or_another_library) {
  const absl::Status missing = open_engine({}, "/nowhere/cenote_torch.so").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.message(), HasSubstr("/nowhere/cenote_torch.so"));

  const std::string text = testing::TempDir() + "/not_a_library.so";
  std::ofstream(text) << "text";
  const absl::Status unreadable = open_engine({}, text).status();
  EXPECT_EQ(unreadable.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(unreadable.message(), HasSubstr("not_a_library.so"));
  std::filesystem::remove(text);

  const absl::Status other = open_engine({}, CENOTE_OTHER_LIBRARY).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(other.message(), HasSubstr("has version none"));
}

}  // namespace
}  // namespace cenote::execute
