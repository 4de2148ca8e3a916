// Goal: a catalogue file survives a crash, and one that is damaged, foreign, newer, locked or on a full disk
// is refused with the remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "store/event_store.h"

namespace cenote {
namespace {

using testing::HasSubstr;

CatalogueEvent event(int i) {
  return ReplicasAdded{"memory-" + std::to_string(i), {}};
}

struct SqliteStore : testing::Test {
  void SetUp() override {
    directory_ = testing::TempDir() + "cenote-sqlite-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/catalogue.db";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::unique_ptr<EventStore> open() {
    auto store = open_sqlite_store(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  void sql(const char* statement) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(handle, statement, nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(handle);
    sqlite3_close(handle);
  }
  absl::Status refusal() { return open_sqlite_store(path_).status(); }
  std::string directory_, path_;
};

TEST_F(SqliteStore, what_was_acknowledged_survives_sigkill) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = open_sqlite_store(path_);
    for (int i = 0; i < 1000000 && store.ok(); ++i) {
      const auto last = (*store)->append(std::vector{event(i), event(i)});
      if (!last.ok() || write(pipe_ends[1], &*last, sizeof(uint64_t)) != sizeof(uint64_t)) break;
    }
    _exit(1);
  }
  close(pipe_ends[1]);
  uint64_t acknowledged = 0, next = 0;
  for (int i = 0; i < 20 && read(pipe_ends[0], &next, sizeof next) == sizeof next; ++i) acknowledged = next;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  while (read(pipe_ends[0], &next, sizeof next) == sizeof next) acknowledged = next;
  close(pipe_ends[0]);
  ASSERT_GE(acknowledged, 40u);
  const auto store = open();
  EXPECT_GE(store->last(), acknowledged);
  EXPECT_EQ(store->last() % 2, 0u) << "half a batch";
  EXPECT_EQ(store->read(1, 1 << 20)->size(), store->last());
}

TEST_F(SqliteStore, a_second_process_is_refused_while_it_is_open) {
  const auto first = open();
  ASSERT_TRUE(first->append(std::vector{event(1)}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(refusal())) << refusal();
  EXPECT_THAT(refusal().message(), HasSubstr("another controller has it open"));
}

TEST_F(SqliteStore, a_newer_format_is_refused) {
  open();
  sql("UPDATE format SET version = 2");
  EXPECT_TRUE(absl::IsFailedPrecondition(refusal()));
  EXPECT_THAT(refusal().message(),
              HasSubstr("has format 2, this Cenote reads 1: use the Cenote that wrote it"));
}

TEST_F(SqliteStore, what_is_not_a_catalogue_is_refused) {
  std::ofstream(path_) << "these are not the bytes of a database, and there are enough of them to see that";
  EXPECT_TRUE(absl::IsDataLoss(refusal())) << refusal();
  std::filesystem::remove(path_);
  sql("CREATE TABLE other(x)");
  EXPECT_TRUE(absl::IsDataLoss(refusal())) << refusal();
  EXPECT_THAT(refusal().message(), HasSubstr("another program"));
}

TEST_F(SqliteStore, damage_inside_is_found_and_named) {
  const auto fill = [&] {
    const auto store = open();
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(store->append(std::vector{event(i), event(i + 1)}).ok());
  };
  fill();
  sql("DELETE FROM event WHERE sequence = 7");
  EXPECT_TRUE(absl::IsDataLoss(refusal())) << refusal();
  std::filesystem::remove_all(path_);
  fill();
  sql("UPDATE event SET bytes = x'0105ff' WHERE sequence = 9");
  const auto read = open()->read(1, 1000);
  EXPECT_TRUE(absl::IsDataLoss(read.status())) << read.status();
  EXPECT_THAT(read.status().message(), HasSubstr("event 9 is damaged"));
  std::filesystem::remove_all(path_);
  fill();
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    file << std::string(4096, '\xa5');
  }
  EXPECT_TRUE(absl::IsDataLoss(refusal())) << refusal();
  EXPECT_THAT(refusal().message(), HasSubstr("restore it from a backup"));
}

// A limit on the file's size stands for a full disk; the child keeps it to itself.
TEST_F(SqliteStore, a_full_disk_refuses_the_batch_and_keeps_what_was_there) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    auto store = open_sqlite_store(path_);
    if (!store.ok()) _exit(10);
    const rlimit limit{256 << 10, 256 << 10};
    setrlimit(RLIMIT_FSIZE, &limit);
    ReplicasAdded large{"memory-0", std::vector<BlockRef>(1000)};
    for (size_t i = 0; i < large.blocks.size(); ++i) {
      large.blocks[i].id.bytes[0] = static_cast<uint8_t>(i);
      large.blocks[i].id.bytes[1] = static_cast<uint8_t>(1 + i / 256);
      large.blocks[i].size_bytes = 1;
    }
    for (int i = 0; i < 100; ++i) {
      const uint64_t before = (*store)->last();
      const auto last = (*store)->append(std::vector<CatalogueEvent>{large, large});
      if (last.ok()) continue;
      if ((*store)->last() != before || (*store)->read(1, 1000)->size() != before) _exit(11);
      _exit(before > 0 ? 0 : 12);
    }
    _exit(13);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0);
  const auto store = open();
  EXPECT_GT(store->last(), 0u);
  EXPECT_EQ(store->last() % 2, 0u);
  EXPECT_TRUE(store->append(std::vector{event(1)}).ok());
}

TEST_F(SqliteStore, a_file_that_was_moved_away_takes_no_more_events_until_it_is_back) {
  std::unique_ptr<EventStore> store = open();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->append(std::vector{event(1)}).ok());
  for (const bool replaced : {false, true}) {
    std::filesystem::rename(path_, path_ + ".away");
    if (replaced) std::ofstream(path_) << "another file";
    const absl::Status refused = store->append(std::vector{event(2)}).status();
    EXPECT_TRUE(absl::IsDataLoss(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("moved or removed"));
    EXPECT_EQ(store->last(), 1u);
    std::filesystem::rename(path_ + ".away", path_);
  }
  EXPECT_TRUE(store->append(std::vector{event(2)}).ok());
  EXPECT_EQ(store->last(), 2u);
}

TEST_F(SqliteStore, files_that_cannot_be_made_say_why) {
  EXPECT_TRUE(absl::IsNotFound(open_sqlite_store("/nowhere/at/all/catalogue.db").status()));
}

}  // namespace
}  // namespace cenote
