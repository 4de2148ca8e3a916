// Goal: the system's calls do what the interface says: names, errors, locks; direct I/O or a note.
// Method: a store in a folder of the build's file system and in one of tmpfs.
#include "disk/posix_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "disk/blocks_of_bytes.h"

namespace cenote::disk {
namespace {

struct TemporaryFolder {
  explicit TemporaryFolder(const std::string& where) : path(where + "/cenote-disk-XXXXXX") { EXPECT_NE(::mkdtemp(path.data()), nullptr); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string path;
};

TEST(PosixFilesTest, a_store_on_the_systems_files_survives_its_process) {
  for (const char* where : {"/dev/shm", "."}) {
    const TemporaryFolder folder(std::filesystem::absolute(where).string());
    const PosixFiles opened = open_posix_files(folder.path);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path)) << "the probe is gone";
    const std::string bytes = some_bytes(1, 5000), largest = some_bytes(2, kBlockBytesMax);
    {
      auto store = BlockStore::open(*opened.files, folder.path, kOwner);
      ASSERT_TRUE(store.ok()) << store.status();
      ASSERT_TRUE(keep(**store, bytes).ok() && keep_settled(**store, largest).ok());
      EXPECT_EQ(BlockStore::open(*opened.files, folder.path, kOwner).status().code(), absl::StatusCode::kAlreadyExists);
    }
    auto store = BlockStore::open(*opened.files, folder.path, kOwner);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->found().blocks.size(), 2u);
    EXPECT_TRUE(read(**store, block_of(bytes)).ok() && check(**store, block_of(largest)).ok());
    const std::string path = folder.path + "/blocks/" + block_of(bytes).id.hex().substr(0, 2) + "/" + block_of(bytes).id.hex();
    EXPECT_EQ(std::filesystem::file_size(path), file_bytes(5000));
    EXPECT_EQ(std::filesystem::status(path).permissions() & std::filesystem::perms::others_all, std::filesystem::perms::none);
    ASSERT_TRUE((*store)->remove(block_of(bytes).id).ok());
    EXPECT_EQ(read(**store, block_of(bytes)).code(), absl::StatusCode::kNotFound);
    EXPECT_GT(*opened.files->free_bytes(folder.path), 0u);
  }
}

TEST(PosixFilesTest, a_file_system_without_direct_io_is_noted) {
  const TemporaryFolder folder("/dev/shm");
  const PosixFiles opened = open_posix_files(folder.path);
  for (const std::string& note : opened.notes) EXPECT_NE(note.find("direct I/O"), std::string::npos) << note;
  const PosixFiles nowhere = open_posix_files(folder.path + "/absent");
  EXPECT_EQ(nowhere.notes.size(), 1u);
}

TEST(PosixFilesTest, errors_have_the_codes_that_the_store_relies_on) {
  const TemporaryFolder folder("/dev/shm");
  const PosixFiles opened = open_posix_files(folder.path);
  Files& files = *opened.files;
  EXPECT_EQ(files.open(folder.path + "/absent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(files.remove(folder.path + "/absent").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(files.rename(folder.path + "/absent", folder.path + "/b").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(files.make_folder(folder.path).ok());
  EXPECT_EQ(files.create("/proc/absent").status().code(), absl::StatusCode::kNotFound);
  const PageBuffer page(kPageBytes);
  std::fill(page.bytes().begin(), page.bytes().end(), std::byte{1});
  const auto buffered = open_posix_files(folder.path + "/absent");  // A device that is always full knows no direct I/O.
  const auto full = buffered.files->create("/dev/full");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ((*full)->write(0, page.bytes()).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace cenote::disk
