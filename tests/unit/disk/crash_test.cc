// Goal: whatever call and byte a crash hits, what the store said it kept is there and right, what it finds is right, nothing else lies
// about, and it goes on working.
// Method: a script of keeps, removals and a quarantine on a disk that forgets; the power fails at every call in turn, within writes at
// many lengths, and every time several fates of what was not synced are tried. Then the same with calls that fail and power that stays.
#include <gtest/gtest.h>

#include <map>

#include "disk/blocks_of_bytes.h"
#include "disk/fake_files.h"

namespace cenote::disk {
namespace {

constexpr const char* kFolder = "/data";

// What the store must and may hold, if it says the truth.
struct Ledger {
  std::map<Digest, BlockRef> must, may;

  void unsure(const std::string& bytes) {
    const BlockRef block = block_of(bytes);
    must.erase(block.id);
    may[block.id] = block;
  }
  void sure(const std::string& bytes, bool there) {
    const BlockRef block = block_of(bytes);
    may.erase(block.id);
    must.erase(block.id);
    if (there) must[block.id] = block;
  }
};

const std::string kA = some_bytes(1, 5000), kB = some_bytes(2, 2 * kPageBytes), kC = some_bytes(3, 1), kD = some_bytes(4, 3 * kPageBytes + 17);

// Runs until the first error, which is all that a process does whose machine dies.
absl::Status script(FakeFiles& files, Ledger& ledger) {
  auto opened = BlockStore::open(files, kFolder, kOwner);
  if (!opened.ok()) return opened.status();
  BlockStore& store = **opened;
  const auto all_kept = [&](std::vector<std::string> blocks) -> absl::Status {
    for (const std::string& bytes : blocks) {
      if (!ledger.must.contains(block_of(bytes).id)) ledger.unsure(bytes);
      if (const absl::Status status = keep(store, bytes); !status.ok()) return status;
    }
    if (const absl::Status status = store.settle(); !status.ok()) return status;
    for (const std::string& bytes : blocks) ledger.sure(bytes, true);
    return absl::OkStatus();
  };
  const auto gone = [&](const std::string& bytes, bool aside) -> absl::Status {
    ledger.unsure(bytes);
    const Digest id = block_of(bytes).id;
    if (const absl::Status status = aside ? store.quarantine(id) : store.remove(id); !status.ok()) return status;
    if (const absl::Status status = store.settle(); !status.ok()) return status;
    ledger.sure(bytes, false);
    return absl::OkStatus();
  };
  absl::Status status = all_kept({kA});
  if (status.ok()) status = all_kept({kB, kC});
  if (status.ok()) status = all_kept({kB});  // Again, over itself: at no moment may it be gone.
  if (status.ok()) status = gone(kA, false);
  if (status.ok()) status = all_kept({kD, kA});
  if (status.ok()) status = gone(kB, true);
  return status;
}

void expect_true_to(Ledger& ledger, FakeFiles& files, const std::string& when) {
  auto opened = BlockStore::open(files, kFolder, kOwner);
  ASSERT_TRUE(opened.ok()) << when << ": " << opened.status();
  std::map<Digest, BlockRef> found;
  for (const BlockRef& block : (*opened)->found().blocks) {
    found[block.id] = block;
    EXPECT_TRUE(ledger.must.contains(block.id) || ledger.may.contains(block.id)) << when << ": " << block.id.short_hex() << " was never kept";
    EXPECT_TRUE(read(**opened, block).ok()) << when << ": " << read(**opened, block);
    EXPECT_TRUE(check(**opened, block).ok()) << when << ": " << check(**opened, block);
  }
  for (const auto& [id, block] : ledger.must) EXPECT_TRUE(found.contains(id)) << when << ": " << block.size_bytes << " bytes are lost";
  EXPECT_EQ((*opened)->found().bad, 0u) << when << ": a file with its final name was not whole";
  for (const std::string& name : files.names()) EXPECT_EQ(name.find(".tmp"), std::string::npos) << when << ": " << name;
  EXPECT_TRUE(keep_settled(**opened, kC).ok() && read(**opened, block_of(kC)).ok()) << when;
  ledger.sure(kC, true);
}

TEST(CrashTest, a_sealed_block_or_nothing_whatever_call_and_byte_the_crash_hits) {
  FakeFiles whole;
  Ledger ledger;
  ASSERT_TRUE(script(whole, ledger).ok());
  ASSERT_EQ(ledger.must.size(), 3u);
  const uint64_t calls = whole.calls();
  uint64_t runs = 0;
  for (uint64_t call = 0; call < calls; ++call) {
    bool write = true, folder = false;
    for (uint64_t torn = 0; write && torn <= 6 * kPageBytes; torn += torn < 1024 ? 512 : 2560) {
      for (uint64_t seed = 0; seed < 5 && !(folder && seed > 0); ++seed) {
        FakeFiles files;
        files.crash_at(call, torn);
        Ledger kept;
        const absl::Status status = script(files, kept);
        ASSERT_EQ(status.code(), absl::StatusCode::kAborted) << status;
        write = status.message().find(" write ") != absl::string_view::npos;
        folder = status.message().find(" make folder ") != absl::string_view::npos;  // Of which there are many, before anything is kept.
        files.recover(seed);
        expect_true_to(kept, files, status.ToString() + " with " + std::to_string(torn) + " bytes, fate " + std::to_string(seed));
        ++runs;
        if (HasFailure()) return;
      }
    }
  }
  std::printf("%llu calls, %llu crashes\n", static_cast<unsigned long long>(calls), static_cast<unsigned long long>(runs));
}

TEST(CrashTest, a_failing_disk_refuses_and_keeps_what_it_had_whatever_call_fails) {
  for (const absl::Status& error : {absl::ResourceExhaustedError("No space left on device"), absl::DataLossError("Input/output error")}) {
    FakeFiles whole;
    Ledger ledger;
    ASSERT_TRUE(script(whole, ledger).ok());
    for (uint64_t call = 0; call < whole.calls(); ++call) {
      FakeFiles files;
      uint64_t number = 0;
      files.refuse = [&](std::string_view, const std::string&) { return number++ == call ? error : absl::OkStatus(); };
      Ledger kept;
      const absl::Status status = script(files, kept);  // Ok where the store can do without: reading back, tidying up.
      files.refuse = nullptr;
      const std::string when = "call " + std::to_string(call) + ": " + status.ToString();
      expect_true_to(kept, files, when);
      files.recover(0);
      expect_true_to(kept, files, when + ", then a crash");
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace cenote::disk
