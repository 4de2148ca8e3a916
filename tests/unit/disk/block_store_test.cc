// Goal: a store keeps, finds again, removes and sets aside blocks; it takes no folder that is not its own; a full or failing disk costs
// only what was being written.
// Method: the store on a fake disk.
#include "disk/block_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "disk/blocks_of_bytes.h"
#include "disk/fake_files.h"

namespace cenote::disk {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

constexpr const char* kFolder = "/data";

std::unique_ptr<BlockStore> open(FakeFiles& files) {
  auto store = BlockStore::open(files, kFolder, kOwner);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

std::string path_of(const std::string& bytes) {
  const std::string hex = block_of(bytes).id.hex();
  return std::string(kFolder) + "/blocks/" + hex.substr(0, 2) + "/" + hex;
}

TEST(BlockStoreTest, what_was_kept_is_found_by_the_next_start_with_its_size) {
  FakeFiles files;
  const std::string one = some_bytes(1, 5000), largest = some_bytes(2, kBlockBytesMax);
  {
    const auto store = open(files);
    ASSERT_TRUE(keep(*store, one).ok() && keep_settled(*store, largest).ok());
  }
  const auto store = open(files);
  EXPECT_THAT(store->found().blocks, testing::UnorderedElementsAre(block_of(one), block_of(largest)));
  EXPECT_TRUE(read(*store, block_of(largest)).ok());
}

TEST(BlockStoreTest, changed_bytes_are_noticed_by_reading_and_by_checking) {
  FakeFiles files;
  const auto store = open(files);
  const std::string bytes = some_bytes(1, 5000);
  ASSERT_TRUE(keep_settled(*store, bytes).ok());
  files.bytes_of(path_of(bytes))[4999] ^= 1;
  EXPECT_EQ(read(*store, block_of(bytes)).code(), StatusCode::kDataLoss);
  EXPECT_EQ(check(*store, block_of(bytes)).code(), StatusCode::kDataLoss);
}

TEST(BlockStoreTest, a_file_cut_short_or_of_another_block_is_set_aside_at_start) {
  FakeFiles files;
  const std::string one = some_bytes(1, 5000), other = some_bytes(2, 5000);
  {
    const auto store = open(files);
    ASSERT_TRUE(keep(*store, one).ok() && keep_settled(*store, other).ok());
    files.bytes_of(path_of(other)) = files.bytes_of(path_of(one));
    files.bytes_of(path_of(one)).resize(kPageBytes);
  }
  const auto store = open(files);
  EXPECT_TRUE(store->found().blocks.empty());
  EXPECT_EQ(store->found().bad, 2u);
  EXPECT_EQ(files.list("/data/quarantine")->size(), 2u);
}

TEST(BlockStoreTest, which_catalogue_its_blocks_came_under_is_found_by_the_next_start) {
  FakeFiles files;
  {
    auto store = open(files);
    EXPECT_EQ(store->found().lineage, StoreLineage{});
    ASSERT_TRUE(store->remember({.lineage = 77, .sequence = 5}).ok());
    ASSERT_TRUE(store->remember({.lineage = 77, .sequence = 6}).ok());
  }
  EXPECT_EQ(open(files)->found().lineage, (StoreLineage{.lineage = 77, .sequence = 6}));
}

TEST(BlockStoreTest, quarantine_holds_a_few_files_and_then_lets_go) {
  FakeFiles files;
  const auto store = open(files);
  for (uint64_t i = 0; i < BlockStore::kQuarantineMax + 3; ++i) {
    ASSERT_TRUE(keep_settled(*store, some_bytes(i, 10)).ok());
    EXPECT_TRUE(store->quarantine(block_of(some_bytes(i, 10)).id).ok());
    EXPECT_EQ(read(*store, block_of(some_bytes(i, 10))).code(), StatusCode::kNotFound);
  }
  EXPECT_EQ(files.list("/data/quarantine")->size(), BlockStore::kQuarantineMax);
  EXPECT_TRUE(store->quarantine(block_of("never here").id).ok());
}

TEST(BlockStoreTest, a_full_disk_refuses_the_block_leaves_nothing_of_it_and_takes_it_when_there_is_room) {
  FakeFiles files;
  const auto store = open(files);
  ASSERT_TRUE(keep_settled(*store, some_bytes(1, 5000)).ok());
  files.capacity_bytes = 5 * kPageBytes;
  EXPECT_EQ(keep(*store, some_bytes(2, 5000)).code(), StatusCode::kResourceExhausted);
  for (const std::string& name : files.names()) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
  EXPECT_TRUE(read(*store, block_of(some_bytes(1, 5000))).ok());
  files.capacity_bytes = UINT64_MAX;
  EXPECT_TRUE(keep_settled(*store, some_bytes(2, 5000)).ok());
}

TEST(BlockStoreTest, two_processes_cannot_have_one_folder) {
  FakeFiles files;
  const auto store = open(files);
  const auto second = BlockStore::open(files, kFolder, kOwner);
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("a folder of its own"));
}

TEST(BlockStoreTest, another_servers_folder_is_refused_and_named) {
  FakeFiles files;
  open(files);
  const auto other = BlockStore::open(files, kFolder, {.cluster = "test", .server = "memory-1"});
  EXPECT_EQ(other.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("it belongs to memory-0 of cluster test, not to memory-1"));
  EXPECT_EQ(BlockStore::open(files, kFolder, {.cluster = "lab", .server = "memory-0"}).status().code(), StatusCode::kFailedPrecondition);
}

TEST(BlockStoreTest, a_folder_of_a_newer_format_or_of_something_else_is_refused_untouched) {
  FakeFiles files;
  open(files);
  std::string& identity = files.bytes_of("/data/identity");
  identity.replace(identity.find("format 1"), 8, "format 2");
  const auto newer = BlockStore::open(files, kFolder, kOwner);
  EXPECT_EQ(newer.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(newer.status().message()), HasSubstr("format 2"));

  FakeFiles photos;
  ASSERT_TRUE(photos.make_folder(kFolder).ok() && photos.create("/data/holiday.jpg").ok());
  const auto taken = BlockStore::open(photos, kFolder, kOwner);
  EXPECT_EQ(taken.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(taken.status().message()), HasSubstr("holiday.jpg"));
}

TEST(BlockStoreTest, what_cannot_be_opened_says_what_to_do) {
  for (const auto& [error, remedy] : std::vector<std::pair<absl::Status, std::string>>{{absl::PermissionDeniedError("Read-only file system"), "writable"},
                                                                                    {absl::ResourceExhaustedError("No space left on device"), "free some space"},
                                                                                    {absl::DataLossError("Input/output error"), "dmesg"}}) {
    FakeFiles files;
    files.refuse = [&](std::string_view call, const std::string&) { return call == "write" ? error : absl::OkStatus(); };
    const auto store = BlockStore::open(files, kFolder, kOwner);
    EXPECT_EQ(store.status().code(), error.code());
    EXPECT_THAT(std::string(store.status().message()), HasSubstr(remedy));
  }
  FakeFiles files;
  EXPECT_THAT(std::string(BlockStore::open(files, "/no/such", kOwner).status().message()), HasSubstr("parent folder"));
}

TEST(BlockStoreTest, a_full_disk_is_still_opened_if_it_was_a_store_before) {
  FakeFiles files;
  const std::string bytes = some_bytes(1, 5000);
  ASSERT_TRUE(keep_settled(*open(files), bytes).ok());
  files.capacity_bytes = 0;
  const auto store = open(files);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->found().blocks, std::vector<BlockRef>{block_of(bytes)});
}

TEST(BlockStoreTest, names_it_does_not_use_are_left_alone) {
  FakeFiles files;
  open(files);
  ASSERT_TRUE(files.create("/data/blocks/ab/notes.txt").ok() && files.make_folder("/data/blocks/lost+found").ok());
  const auto store = open(files);
  EXPECT_EQ(store->found().foreign, 2u);
  EXPECT_TRUE(files.open("/data/blocks/ab/notes.txt").ok());
}

}  // namespace
}  // namespace cenote::disk
