// Goal: every EventStore keeps events in order, all of a batch or none, and compacts without losing its
// place.
#include "store/event_store.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/hash.h"
#include "catalog/catalogue.h"

namespace cenote {
namespace {

CatalogueEvent event(int i) {
  return ReplicasAdded{"memory-" + std::to_string(i), {}};
}

struct AnyStore : testing::TestWithParam<const char*> {
  void SetUp() override {
    directory_ = testing::TempDir() + "cenote-store-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    reopen();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  bool durable() const { return std::string(GetParam()) == "sqlite"; }
  void reopen() {
    store_.reset();
    if (!durable()) {
      store_ = open_memory_store();
      return;
    }
    auto opened = open_sqlite_store(directory_ + "/catalogue.db");
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
  }
  std::vector<CatalogueEvent> all(uint64_t from) {
    std::vector<CatalogueEvent> events;
    auto read = store_->read(from, 1000);
    EXPECT_TRUE(read.ok()) << read.status();
    for (StoredEvent& stored : *read) {
      EXPECT_EQ(stored.sequence, from + events.size());
      events.push_back(std::move(stored.event));
    }
    return events;
  }

  std::string directory_;
  std::unique_ptr<EventStore> store_;
};
INSTANTIATE_TEST_SUITE_P(Stores, AnyStore, testing::Values("memory", "sqlite"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(AnyStore, begins_empty) {
  EXPECT_EQ(store_->first(), 1u);
  EXPECT_EQ(store_->last(), 0u);
  EXPECT_TRUE(all(1).empty());
}

TEST_P(AnyStore, events_come_back_in_order_in_pages_and_after_reopening) {
  EXPECT_EQ(*store_->append(std::vector{event(1)}), 1u);
  EXPECT_EQ(*store_->append(std::vector{event(2), event(3)}), 3u);
  if (durable()) reopen();
  EXPECT_EQ(store_->last(), 3u);
  EXPECT_EQ(all(1), (std::vector{event(1), event(2), event(3)}));
  EXPECT_EQ(all(3), (std::vector{event(3)}));
  EXPECT_TRUE(all(4).empty());
  EXPECT_EQ(store_->read(1, 2)->size(), 2u);
}

TEST_P(AnyStore, a_batch_with_one_bad_event_is_refused_whole) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->append(std::vector<CatalogueEvent>{event(1), TagRemoved{"..", "x"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->append({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->append(std::vector<CatalogueEvent>(kEventsPerAppendMax + 1, event(1))).status()));
  EXPECT_EQ(store_->last(), 0u);
}

TEST_P(AnyStore, a_removal_of_thousands_of_revisions_is_one_batch) {
  EXPECT_EQ(*store_->append(std::vector<CatalogueEvent>(10'000, event(1))), 10'000u);
}

TEST_P(AnyStore, compacting_keeps_the_numbers_rising) {
  ASSERT_TRUE(store_->append(std::vector{event(1), event(2), event(3)}).ok());
  ASSERT_TRUE(store_->compact(std::vector{event(9)}).ok());
  EXPECT_EQ(store_->first(), 4u);
  EXPECT_EQ(store_->last(), 4u);
  EXPECT_TRUE(absl::IsOutOfRange(store_->read(1, 10).status()));
  EXPECT_EQ(*store_->append(std::vector{event(10)}), 5u);
  if (durable()) reopen();
  EXPECT_EQ(all(4), (std::vector{event(9), event(10)}));
  ASSERT_TRUE(store_->compact({}).ok());
  if (durable()) reopen();
  EXPECT_EQ(store_->first(), 6u);
  EXPECT_EQ(*store_->append(std::vector{event(11)}), 6u);
}

}  // namespace
}  // namespace cenote
