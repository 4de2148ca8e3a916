// Goal: a backup brings back exactly the catalogue that it was made of, with drops held; one that is damaged, newer or something else is
// refused and nothing is made of it.
#include "store/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "../golden.h"
#include "base/hash.h"
#include "catalog/catalogue.h"
#include "store/event_store.h"
#include "store/read_catalogue.h"

namespace cenote {
namespace {

using testing::HasSubstr;

Digest id(const std::string& seed) { return sha256(as_bytes(seed)); }

std::vector<CatalogueEvent> life() {
  RevisionRecord record{.digest = id("r"), .name = "gpt2", .manifest_bytes = 700, .manifest_blocks = {{id("m"), 700}}, .blocks = {{id("a"), 4096}},
                        .weight_bytes = 4096, .created_us = 5};
  RevisionRecord second = record;
  second.digest = id("s");
  return {LineageSet{42, ""}, RevisionSealed{record}, TagMoved{"gpt2", "latest", record.digest}, RevisionSealed{second}, TagMoved{"gpt2", "latest", second.digest},
          PrefetchSet{record.digest, false}, ReplicasAdded{"memory-0", {{id("a"), 4096}}}, OperationDone{std::string(kOperationIdBytes, 'o'), id("asked"), "gpt2"}};
}

struct BackupTest : testing::Test {
  void SetUp() override {
    directory = testing::TempDir() + "cenote-backup-XXXXXX";
    ASSERT_NE(mkdtemp(directory.data()), nullptr);
    for (const CatalogueEvent& event : life()) {
      ASSERT_TRUE(catalogue.apply(event).ok());
      encoded.push_back(encode_event(event));
    }
    backup = *make_backup("local", 1700000000000000, 8, encoded);
  }
  void TearDown() override { std::filesystem::remove_all(directory); }
  std::string directory;
  Catalogue catalogue;
  std::vector<std::string> encoded;
  Backup backup;
};

TEST_F(BackupTest, bytes_are_those_on_file) {
  expect_golden("backup_v1.bin", backup.bytes);
  const auto info = check_backup(read_golden("backup_v1.bin"));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->cluster, "local");
  EXPECT_EQ(info->sequence, 8u);
  EXPECT_EQ(info->revisions, 2u);
  EXPECT_EQ(info->fingerprint, catalogue.fingerprint());
}

TEST_F(BackupTest, restoring_makes_the_same_catalogue_under_a_new_lineage_with_drops_held) {
  ASSERT_TRUE(restore_backup(backup.bytes, directory + "/catalogue.db", 99).ok());
  const auto store = open_sqlite_store(directory + "/catalogue.db");
  ASSERT_TRUE(store.ok());
  auto restored = read_catalogue(**store);
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored->lineage(), 99u);
  EXPECT_THAT(restored->held_because(), HasSubstr("restored from a backup"));
  ASSERT_TRUE(restored->apply(LineageSet{42, ""}).ok());
  EXPECT_EQ(restored->fingerprint(), catalogue.fingerprint());
  EXPECT_TRUE(absl::IsAlreadyExists(restore_backup(backup.bytes, directory + "/catalogue.db", 99)));
}

TEST_F(BackupTest, any_damaged_byte_or_length_is_refused_before_a_file_is_made) {
  const std::string path = directory + "/catalogue.db";
  for (size_t at = 0; at < backup.bytes.size(); ++at) {
    std::string damaged = backup.bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_FALSE(check_backup(damaged).ok()) << at;
    EXPECT_FALSE(check_backup(backup.bytes.substr(0, at)).ok()) << at;
  }
  EXPECT_TRUE(absl::IsDataLoss(restore_backup(backup.bytes.substr(0, backup.bytes.size() - 1), path, 99)));
  EXPECT_TRUE(absl::IsInvalidArgument(restore_backup("SQLite format 3", path, 99)));
  std::string newer = backup.bytes;
  newer[8] = 2;
  EXPECT_TRUE(absl::IsFailedPrecondition(restore_backup(newer, path, 99)));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(BackupTest, pages_of_a_store_are_all_its_events) {
  const auto store = open_memory_store();
  ASSERT_TRUE(store->append(life()).ok());
  const auto page = read_event_page(*store, "local", 0);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->first, 1u);
  EXPECT_EQ(page->last, 8u);
  EXPECT_EQ(page->events, encoded);
  EXPECT_TRUE(read_event_page(*store, "local", 9)->events.empty());
  ASSERT_TRUE(store->compact(life()).ok());
  EXPECT_TRUE(absl::IsOutOfRange(read_event_page(*store, "local", 3).status()));
}

TEST_F(BackupTest, a_catalogue_that_is_in_use_is_not_closed_from_outside) {
  const auto store = open_sqlite_store(directory + "/catalogue.db");
  ASSERT_TRUE(store.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(close_catalogue(directory + "/catalogue.db")));
}

}  // namespace
}  // namespace cenote
