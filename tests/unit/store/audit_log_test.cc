// Goal: an entry is in the file, whole and readable, once append() said so; a full disk leaves no half of one and says what to do; the
// files stay within their bound; a line that a crash cut short takes no other with it.
#include "store/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/status.h"

namespace cenote {
namespace {

using ::testing::HasSubstr;

class AuditLogTest : public ::testing::Test {
 protected:
  AuditLogTest() {
    std::string name = (std::filesystem::temp_directory_path() / "cenote_audit_XXXXXX").string();
    CENOTE_CHECK(mkdtemp(name.data()) != nullptr);
    directory_ = name;
  }
  ~AuditLogTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/audit/controller.jsonl"; }
  std::vector<nlohmann::json> lines(const std::string& path) const {
    std::ifstream file(path);
    std::vector<nlohmann::json> found;
    for (std::string line; std::getline(file, line);) found.push_back(nlohmann::json::parse(line, nullptr, false));
    return found;
  }

  std::string directory_;
};

AuditEntry entry(const std::string& model) {
  return {.id = "ab12", .action = "remove", .what = {{"model", model}},
          .who = {.role = CallerRole::kDeployer, .subject = "alice", .tenant = "vision", .serial = "3f", .peer = "ipv4:10.0.0.7:1"}};
}

TEST_F(AuditLogTest, an_entry_says_who_what_when_and_how_it_ended) {
  const auto log = *AuditLog::open(path(), 1 << 20);
  ASSERT_TRUE(log->append(audit_begin(entry("gpt2"), 1'700'000'000'123'456)).ok());
  ASSERT_TRUE(log->append(audit_end(entry("gpt2"), 1'700'000'001'000'000, absl::NotFoundError("no model"))).ok());
  const auto found = lines(path());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0]["time"], "2023-11-14T22:13:20.123456Z");
  EXPECT_EQ(found[0]["phase"], "begin");
  EXPECT_EQ(found[0]["who"]["subject"], "alice");
  EXPECT_EQ(found[0]["who"]["role"], "deployer");
  EXPECT_EQ(found[0]["what"]["model"], "gpt2");
  EXPECT_EQ(found[1]["outcome"], "not_found");
  EXPECT_EQ(found[1]["message"], "no model");
  struct stat info {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(AuditLogTest, texts_from_outside_cannot_end_a_line_or_spoil_it) {
  const auto log = *AuditLog::open(path(), 1 << 20);
  ASSERT_TRUE(log->append(audit_begin(entry("a\n{\"phase\":\"end\"}\xff\0b" + std::string(1 << 20, 'x')), 0)).ok());
  const auto found = lines(path());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].is_object());
  EXPECT_LE(std::filesystem::file_size(path()), 8u << 10);
}

TEST_F(AuditLogTest, a_full_file_is_set_aside_and_two_are_kept) {
  const auto log = *AuditLog::open(path(), 2'000);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(log->append(audit_begin(entry("model-" + std::to_string(i)), i)).ok());
  EXPECT_LE(std::filesystem::file_size(path()), 2'000u);
  EXPECT_LE(std::filesystem::file_size(path() + ".1"), 2'000u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_ + "/audit"), {}), 2);
  EXPECT_EQ(lines(path()).back()["what"]["model"], "model-49");
}

TEST_F(AuditLogTest, a_line_that_a_crash_cut_short_takes_no_other_with_it) {
  std::filesystem::create_directories(directory_ + "/audit");
  std::ofstream(path()) << R"({"id":"cut)";
  const auto log = *AuditLog::open(path(), 1 << 20);
  ASSERT_TRUE(log->append(audit_begin(entry("gpt2"), 0)).ok());
  const auto found = lines(path());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].is_discarded());
  EXPECT_EQ(found[1]["what"]["model"], "gpt2");
}

// A limit on the size of files stands for the full disk: a write that crosses it ends short, the next fails.
TEST_F(AuditLogTest, a_full_disk_is_said_leaves_no_half_and_may_pass) {
  const auto log = *AuditLog::open(path(), 1 << 20);
  const std::string line = audit_begin(entry("gpt2"), 0);
  ASSERT_TRUE(log->append(line).ok());
  const uint64_t whole = std::filesystem::file_size(path());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{whole + line.size() / 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status status = log->append(line);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("make room"));
  EXPECT_EQ(std::filesystem::file_size(path()), whole);
  ASSERT_TRUE(log->append(line).ok());
  EXPECT_EQ(lines(path()).size(), 2u);
}

TEST_F(AuditLogTest, a_place_that_cannot_be_written_is_named) {
  std::filesystem::create_directories(path());  // A directory where the file should be.
  const absl::Status status = AuditLog::open(path(), 1 << 20).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(path()));
}

}  // namespace
}  // namespace cenote
