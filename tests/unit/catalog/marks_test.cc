// Goal: evictions, answers to operations, labels and the lineage are state like any other: bounded, counted, and in every snapshot.
#include "scenario.h"

namespace cenote {
namespace {

OperationDone operation(int n, size_t digests = 0) {
  std::string name = std::to_string(n);
  return {.id = std::string(kOperationIdBytes - name.size(), '0') + name, .request = id("asked"), .revisions = std::vector<Digest>(digests, id("x"))};
}

TEST(Marks, the_newest_answers_are_kept_and_the_oldest_forgotten) {
  Catalogue catalogue;
  for (int i = 0; i < static_cast<int>(kOperationsKept) + 5; ++i) apply_all(catalogue, {operation(i)});
  EXPECT_EQ(catalogue.operation(operation(4).id), nullptr);
  EXPECT_NE(catalogue.operation(operation(5).id), nullptr);
  EXPECT_TRUE(absl::IsAlreadyExists(catalogue.apply(operation(5))));
  apply_all(catalogue, {operation(5000, kOperationDigestsKept), operation(5001, 1)});
  EXPECT_EQ(catalogue.operation(operation(5000).id), nullptr) << "lists are bounded all together";
  EXPECT_NE(catalogue.operation(operation(5001).id), nullptr);
}

TEST(Marks, an_eviction_ends_with_its_revision) {
  Catalogue catalogue;
  const RevisionRecord record = revision("m", "ab");
  EXPECT_TRUE(absl::IsNotFound(catalogue.apply(PrefetchSet{record.digest, false})));
  apply_all(catalogue, {RevisionSealed{record}, PrefetchSet{record.digest, false}});
  EXPECT_TRUE(catalogue.evicted().contains(record.digest));
  apply_all(catalogue, {RevisionRemoved{"m", record.digest}, RevisionSealed{record}});
  EXPECT_TRUE(catalogue.evicted().empty());
}

TEST(Marks, a_label_is_needed_as_long_as_its_name) {
  Catalogue catalogue;
  const RevisionRecord record = revision("m", "ab");
  RevisionRecord other = record;
  other.name = "n";
  apply_all(catalogue, {RevisionSealed{record}, RevisionSealed{other}, RevisionLabelled{"m", record.digest, block("label m")},
                        RevisionLabelled{"n", record.digest, block("label n")}, ReplicasAdded{"memory-0", {block("label m"), block("label n")}}});
  EXPECT_TRUE(absl::IsAlreadyExists(catalogue.apply(RevisionLabelled{"m", record.digest, block("again")})));
  EXPECT_EQ(catalogue.references(block("label m").id), 1u);
  apply_all(catalogue, {RevisionRemoved{"m", record.digest}});
  EXPECT_EQ(catalogue.references(block("label m").id), 0u);
  EXPECT_EQ(catalogue.references(block("label n").id), 1u);
  EXPECT_EQ(catalogue.unreferenced(), std::vector{block("label m")});
}

TEST(Marks, a_name_belongs_to_its_tenant_as_long_as_it_has_a_revision) {
  Catalogue catalogue;
  const RevisionRecord first = revision("m", "ab"), second = revision("m", "cd");
  EXPECT_TRUE(absl::IsNotFound(catalogue.apply(NameOwned{"m", "vision"})));
  apply_all(catalogue, {RevisionSealed{first}, RevisionSealed{second}, NameOwned{"m", "vision"}});
  EXPECT_EQ(catalogue.owner_of("m"), "vision");
  EXPECT_EQ(catalogue.owner_of("other"), "default");
  apply_all(catalogue, {RevisionRemoved{"m", first.digest}});
  EXPECT_EQ(catalogue.owner_of("m"), "vision");
  apply_all(catalogue, {RevisionRemoved{"m", second.digest}});
  EXPECT_EQ(catalogue.owner_of("m"), "default");
}

TEST(Marks, a_tenants_blocks_count_once_and_shared_ones_for_each_tenant) {
  Catalogue catalogue;
  RevisionRecord first = revision("m", "ab"), second = revision("n", "bc"), third = revision("o", "bc");
  apply_all(catalogue, {RevisionSealed{first}, RevisionSealed{second}, RevisionSealed{third}, NameOwned{"m", "vision"}, NameOwned{"n", "vision"}});
  const Catalogue::TenantUse vision = catalogue.tenant_use("vision"), rest = catalogue.tenant_use("default");
  EXPECT_EQ(vision.names, (std::set<std::string>{"m", "n"}));
  std::set<Digest> expected;
  for (const RevisionRecord& record : {first, second}) {
    for (const BlockRef& block : distinct_blocks(record)) expected.insert(block.id);
  }
  EXPECT_EQ(vision.blocks.size(), expected.size());
  EXPECT_EQ(rest.blocks.size(), distinct_blocks(third).size());
}

}  // namespace
}  // namespace cenote
