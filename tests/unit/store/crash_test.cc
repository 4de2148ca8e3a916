// Goal: whichever write, sync, truncation or deletion of its file a crash or an error hits, the catalogue is afterwards one of the states
// it was in, none older than what was acknowledged, and it goes on from there.
// Method: a scripted life of a store (batches, large ones too, closing, reopening, compacting) over simulated_disk.h, broken at each of
// its calls in turn.
#include <gtest/gtest.h>

#include "base/hash.h"
#include "catalog/catalogue.h"
#include "simulated_disk.h"
#include "store/event_store.h"
#include "store/read_catalogue.h"

namespace cenote {
namespace {

constexpr char kPath[] = "/catalogue.db";

Digest id(const std::string& seed) { return sha256(as_bytes(seed)); }

RevisionRecord record(int n, const std::string& name, size_t blocks) {
  const std::string number = std::to_string(n);
  RevisionRecord made{.digest = id("r" + number), .name = name, .manifest_bytes = 700, .manifest_blocks = {{id("m" + number), 700}}, .created_us = n};
  for (size_t i = 0; i < blocks; ++i) made.blocks.push_back({id("b" + number + "." + std::to_string(i)), 4096});
  made.weight_bytes = 4096 * blocks;
  return made;
}

using Batch = std::vector<CatalogueEvent>;

// A deploy, a publish, an eviction, a rollback, a removal: one batch each. `blocks`: of each revision.
std::vector<Batch> life(size_t blocks) {
  const std::string operation(kOperationIdBytes, 'o');
  const RevisionRecord a = record(1, "bert", blocks), b = record(2, "bert", blocks), c = record(3, "gpt", blocks);
  return {{LineageSet{77, ""}},
          {ReplicasAdded{"memory-0", a.blocks}},
          {RevisionSealed{a}, TagMoved{"bert", "latest", a.digest}},
          {RevisionSealed{b}, RevisionLabelled{"bert", b.digest, {id("label"), 1021}}, TagMoved{"bert", "latest", b.digest}},
          {PrefetchSet{a.digest, false}},
          {TagMoved{"bert", "latest", a.digest, true}, OperationDone{operation, id("asked"), "bert", "latest", a.digest, b.digest}},
          {RevisionSealed{c}, TagMoved{"gpt", "latest", c.digest}, ReplicasAdded{"memory-1", c.blocks}},
          {RevisionRemoved{"bert", b.digest}},
          {ReplicasLost{"memory-0", true, {}}, LineageSet{78, "held"}}};
}

// fingerprints[k]: after k batches.
std::vector<Digest> fingerprints_of(const std::vector<Batch>& batches) {
  Catalogue catalogue;
  std::vector<Digest> all{catalogue.fingerprint()};
  for (const Batch& batch : batches) {
    for (const CatalogueEvent& event : batch) EXPECT_TRUE(catalogue.apply(event).ok()) << describe_event(event);
    all.push_back(catalogue.fingerprint());
  }
  return all;
}

// Lives until something fails; returns how many batches were acknowledged.
size_t live(const std::vector<Batch>& batches) {
  Catalogue catalogue;
  size_t acknowledged = 0;
  auto store = open_sqlite_store(kPath);
  if (!store.ok()) return 0;
  for (const Batch& batch : batches) {
    if (acknowledged == batches.size() / 3) {
      store->reset();
      store = open_sqlite_store(kPath);
      if (!store.ok()) return acknowledged;
    }
    if (acknowledged == batches.size() / 2 && !(*store)->compact(catalogue.as_events()).ok()) return acknowledged;
    if (!(*store)->append(batch).ok()) return acknowledged;
    for (const CatalogueEvent& event : batch) EXPECT_TRUE(catalogue.apply(event).ok());
    ++acknowledged;
  }
  return acknowledged;
}

// The state that the file holds, as a number of batches; then one more event is taken.
size_t recover(const std::vector<Digest>& fingerprints) {
  auto store = open_sqlite_store(kPath);
  if (!store.ok()) {
    ADD_FAILURE() << store.status();
    return 0;
  }
  const auto catalogue = read_catalogue(**store);
  if (!catalogue.ok()) {
    ADD_FAILURE() << catalogue.status();
    return 0;
  }
  const auto found = std::find(fingerprints.begin(), fingerprints.end(), catalogue->fingerprint());
  EXPECT_NE(found, fingerprints.end()) << "a state that never was, after " << (*store)->last() << " events";
  const uint64_t before = (*store)->last();
  EXPECT_EQ((*store)->append(Batch{LineageSet{99, "later"}}).value_or(0), before + 1);
  return static_cast<size_t>(found - fingerprints.begin());
}

void crash_at(uint64_t at, const std::vector<Batch>& batches, const std::vector<Digest>& fingerprints) {
  for (const Survival survival : {Survival::kNothingUnsynced, Survival::kAll, Survival::kAnyPart}) {
    SCOPED_TRACE("dies at call " + std::to_string(at) + ", survival " + std::to_string(static_cast<int>(survival)));
    SimulatedDisk disk;
    disk.fail_at(at, DiskFault::kDies, true);
    const size_t acknowledged = live(batches);
    Rng rng(at);
    disk.crash(survival, rng);
    const size_t found = recover(fingerprints);
    ASSERT_GE(found, acknowledged);
    ASSERT_LE(found, acknowledged + 1);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

TEST(Crash, at_any_call_leaves_what_was_acknowledged) {
  const std::vector<Batch> batches = life(2);
  const std::vector<Digest> fingerprints = fingerprints_of(batches);
  uint64_t calls = 0;
  {
    SimulatedDisk disk;
    ASSERT_EQ(live(batches), batches.size());
    calls = disk.calls();
  }
  ASSERT_GT(calls, 50u);
  for (uint64_t at = 1; at <= calls && !HasFailure(); ++at) crash_at(at, batches, fingerprints);
}

// Batches of a megabyte: the log is checkpointed into the file while the store lives, not only when it is closed.
TEST(Crash, within_a_checkpoint_leaves_what_was_acknowledged) {
  const std::vector<Batch> batches = life(30'000);
  const std::vector<Digest> fingerprints = fingerprints_of(batches);
  std::vector<uint64_t> checkpoints;
  {
    SimulatedDisk disk;
    ASSERT_EQ(live(batches), batches.size());
    checkpoints = disk.changes_of(kPath);
  }
  ASSERT_GT(checkpoints.size(), 1000u);
  for (const size_t part : {1, 3, 5, 7}) crash_at(checkpoints[checkpoints.size() * part / 8], batches, fingerprints);
}

// One call fails, or all from one on until the disk is mended; then the same batch is tried again.
void fail_at_every(DiskFault fault, bool lasting) {
  const std::vector<Batch> batches = life(2);
  const std::vector<Digest> fingerprints = fingerprints_of(batches);
  uint64_t failures = 0;
  for (uint64_t at = 1;; ++at) {
    SCOPED_TRACE("fails at call " + std::to_string(at));
    SimulatedDisk disk;
    auto store = open_sqlite_store(kPath);
    ASSERT_TRUE(store.ok());
    disk.fail_at(at, fault, lasting);
    Catalogue catalogue;
    for (size_t next = 0; next < batches.size(); ++next) {
      const uint64_t before = (*store)->last();
      absl::Status status = (*store)->append(batches[next]).status();
      if (!status.ok()) {
        ++failures;
        EXPECT_TRUE(fault == DiskFault::kFull ? absl::IsResourceExhausted(status) : absl::IsDataLoss(status)) << status;
        ASSERT_EQ((*store)->last(), before);
        const auto there = read_catalogue(**store);
        ASSERT_TRUE(there.ok()) << there.status();
        ASSERT_EQ(there->fingerprint(), fingerprints[next]) << "half done";
        disk.mend();
        status = (*store)->append(batches[next]).status();
      }
      ASSERT_TRUE(status.ok()) << status;
      for (const CatalogueEvent& event : batches[next]) ASSERT_TRUE(catalogue.apply(event).ok());
      if (next == batches.size() / 2 && !(*store)->compact(catalogue.as_events()).ok()) {
        ++failures;
        disk.mend();
        ASSERT_EQ(read_catalogue(**store)->fingerprint(), fingerprints[next + 1]);
        ASSERT_TRUE((*store)->compact(catalogue.as_events()).ok());
      }
    }
    const bool reached = disk.failed();
    store->reset();
    disk.mend();
    Rng rng(at);
    disk.crash(Survival::kAnyPart, rng);
    ASSERT_EQ(recover(fingerprints), batches.size());
    ASSERT_FALSE(testing::Test::HasFailure());
    if (!reached) break;
  }
  EXPECT_GT(failures, 20u);
}

TEST(Fault, a_full_disk_at_any_call_refuses_one_batch_whole) { fail_at_every(DiskFault::kFull, false); }
TEST(Fault, a_disk_that_stays_full_refuses_batches_whole_until_it_has_room) { fail_at_every(DiskFault::kFull, true); }
TEST(Fault, an_error_of_the_disk_at_any_call_refuses_one_batch_whole) { fail_at_every(DiskFault::kIoError, false); }
TEST(Fault, a_disk_that_fails_for_a_while_takes_batches_afterwards) { fail_at_every(DiskFault::kIoError, true); }

}  // namespace
}  // namespace cenote
