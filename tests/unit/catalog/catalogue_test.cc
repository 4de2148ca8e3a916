// Goal: the catalogue knows what applied events say, counts references rightly, and an invalid event leaves
// it unchanged.
#include "catalog/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scenario.h"

namespace cenote {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void expect_refused(Catalogue& catalogue, const CatalogueEvent& event, absl::StatusCode code) {
  const Digest before = catalogue.fingerprint();
  const uint64_t applied = catalogue.applied();
  EXPECT_EQ(catalogue.apply(event).code(), code) << describe_event(event);
  EXPECT_EQ(catalogue.fingerprint(), before);
  EXPECT_EQ(catalogue.applied(), applied);
}

TEST(Catalogue, a_sealed_revision_is_found_by_digest_prefix_and_tag) {
  Catalogue catalogue;
  const RevisionRecord record = revision("gpt2", "ab");
  apply_all(catalogue, {RevisionSealed{record}, TagMoved{"gpt2", "latest", record.digest}});
  EXPECT_EQ(*catalogue.resolve("gpt2"), record.digest);
  EXPECT_EQ(*catalogue.resolve("gpt2@" + record.digest.hex().substr(0, 6)), record.digest);
  ASSERT_NE(catalogue.find(record.digest), nullptr);
  EXPECT_EQ(catalogue.find(record.digest)->weight_bytes, 8192u);
  EXPECT_EQ(catalogue.find(id("other")), nullptr);
  EXPECT_EQ(catalogue.tag_views().size(), 1u);
}

TEST(Catalogue, what_is_not_there_is_named_with_the_nearest) {
  Catalogue catalogue;
  apply_all(catalogue, {RevisionSealed{revision("resnet152", "ab")}});
  EXPECT_THAT(catalogue.resolve("resnet125").status().message(), HasSubstr("did you mean 'resnet152'?"));
  EXPECT_THAT(catalogue.resolve("resnet152").status().message(), HasSubstr("it has none"));
  EXPECT_TRUE(absl::IsNotFound(catalogue.resolve("resnet152@000000").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(catalogue.resolve("re snet").status()));
}

TEST(Catalogue, a_prefix_that_fits_several_revisions_is_refused) {
  Catalogue catalogue;
  RevisionRecord a = revision("m", "a"), b = revision("m", "b");
  b.digest = a.digest;
  b.digest.bytes[31] ^= 1;
  apply_all(catalogue, {RevisionSealed{a}, RevisionSealed{b}});
  EXPECT_THAT(catalogue.resolve("m@" + a.digest.hex().substr(0, 12)).status().message(),
              HasSubstr("fits 2 revisions"));
  EXPECT_EQ(*catalogue.resolve("m@" + b.digest.hex()), b.digest);
}

TEST(Catalogue, tags_remember_where_they_pointed_and_roll_back) {
  Catalogue catalogue;
  const RevisionRecord a = revision("m", "a"), b = revision("m", "b"), c = revision("m", "c");
  apply_all(catalogue, {RevisionSealed{a}, RevisionSealed{b}, RevisionSealed{c}, TagMoved{"m", "t", a.digest},
                        TagMoved{"m", "t", b.digest}, TagMoved{"m", "t", c.digest}});
  EXPECT_THAT(catalogue.tag("m", "t")->history, ElementsAre(a.digest, b.digest));
  expect_refused(catalogue, TagMoved{"m", "t", a.digest, true}, absl::StatusCode::kFailedPrecondition);
  apply_all(catalogue, {TagMoved{"m", "t", b.digest, true}});
  EXPECT_EQ(*catalogue.tag("m", "t"), (TagState{b.digest, {a.digest}}));
  apply_all(catalogue, {TagMoved{"m", "t", a.digest, true}});
  expect_refused(catalogue, TagMoved{"m", "t", b.digest, true}, absl::StatusCode::kFailedPrecondition);
}

TEST(Catalogue, history_is_bounded) {
  Catalogue catalogue;
  const RevisionRecord a = revision("m", "a"), b = revision("m", "b");
  apply_all(catalogue, {RevisionSealed{a}, RevisionSealed{b}});
  for (int i = 0; i < 200; ++i) apply_all(catalogue, {TagMoved{"m", "t", i % 2 ? a.digest : b.digest}});
  EXPECT_EQ(catalogue.tag("m", "t")->history.size(), kTagHistoryMax);
}

TEST(Catalogue, shared_blocks_are_freed_with_their_last_revision) {
  Catalogue catalogue;
  const RevisionRecord base = revision("base", "ab"), tuned = revision("tuned", "abc");
  apply_all(catalogue,
            {RevisionSealed{base}, RevisionSealed{tuned},
             ReplicasAdded{"memory-0", {block("a"), block("b"), block("c"), base.manifest_blocks[0]}}});
  EXPECT_EQ(catalogue.references(block("a").id), 2u);
  EXPECT_EQ(catalogue.references(block("c").id), 1u);
  EXPECT_THAT(catalogue.only_needed_by(base.digest), ElementsAre(base.manifest_blocks[0]));
  apply_all(catalogue, {RevisionRemoved{"base", base.digest}});
  EXPECT_THAT(catalogue.unreferenced(), ElementsAre(base.manifest_blocks[0]));
  EXPECT_EQ(catalogue.references(block("a").id), 1u);
  apply_all(catalogue, {RevisionRemoved{"tuned", tuned.digest}});
  EXPECT_EQ(catalogue.unreferenced().size(), 4u);
  apply_all(catalogue, {ReplicasLost{"memory-0", true, {}}});
  EXPECT_TRUE(catalogue.blocks().empty());
  EXPECT_EQ(catalogue.fingerprint(), Catalogue().fingerprint());
}

TEST(Catalogue, one_revision_may_belong_to_several_names) {
  Catalogue catalogue;
  const RevisionRecord a = revision("a", "xy"), b = revision("b", "xy");
  ASSERT_EQ(a.digest, b.digest);
  apply_all(catalogue, {RevisionSealed{a}, RevisionSealed{b}, TagMoved{"b", "latest", a.digest}});
  EXPECT_THAT(catalogue.names(), ElementsAre("a", "b"));
  EXPECT_EQ(catalogue.references(block("x").id), 1u);
  apply_all(catalogue, {RevisionRemoved{"a", a.digest}});
  EXPECT_EQ(catalogue.find(a.digest)->name, "b");
  EXPECT_TRUE(absl::IsNotFound(catalogue.resolve("a").status()));
  EXPECT_EQ(*catalogue.resolve("b"), a.digest);
}

TEST(Catalogue, replicas_come_and_go_by_server) {
  Catalogue catalogue;
  apply_all(catalogue, {RevisionSealed{revision("m", "ab")}, ReplicasAdded{"memory-1", {block("a")}},
                        ReplicasAdded{"memory-0", {block("a"), block("b")}}});
  EXPECT_THAT(catalogue.replicas(block("a").id), ElementsAre("memory-0", "memory-1"));
  apply_all(catalogue, {ReplicasLost{"memory-0", false, {block("a").id, block("z").id}}});
  EXPECT_THAT(catalogue.replicas(block("a").id), ElementsAre("memory-1"));
  EXPECT_THAT(catalogue.held_by("memory-0"), ElementsAre(block("b")));
  apply_all(catalogue, {ReplicasLost{"memory-0", true, {}}, ReplicasLost{"memory-9", true, {}}});
  EXPECT_TRUE(catalogue.replicas(block("b").id).empty());
  EXPECT_EQ(catalogue.references(block("b").id), 1u);
}

TEST(Catalogue, invalid_events_leave_it_unchanged) {
  Catalogue catalogue;
  const RevisionRecord a = revision("m", "ab");
  apply_all(catalogue,
            {RevisionSealed{a}, TagMoved{"m", "latest", a.digest}, ReplicasAdded{"memory-0", {block("a")}}});
  using Code = absl::StatusCode;
  expect_refused(catalogue, RevisionSealed{a}, Code::kAlreadyExists);
  RevisionRecord other = revision("n", "ac");
  other.digest = a.digest;
  expect_refused(catalogue, RevisionSealed{other}, Code::kInvalidArgument);
  RevisionRecord resized = revision("n", "bz");
  resized.blocks[0].size_bytes = 8192;
  resized.weight_bytes += 4096;
  expect_refused(catalogue, RevisionSealed{resized}, Code::kInvalidArgument);
  expect_refused(catalogue, TagMoved{"m", "latest", a.digest}, Code::kAlreadyExists);
  expect_refused(catalogue, TagMoved{"m", "latest", id("x")}, Code::kNotFound);
  expect_refused(catalogue, TagMoved{"n", "latest", a.digest}, Code::kNotFound);
  expect_refused(catalogue, TagMoved{"m", "new", a.digest, true}, Code::kNotFound);
  expect_refused(catalogue, TagRemoved{"m", "new"}, Code::kNotFound);
  expect_refused(catalogue, RevisionRemoved{"m", a.digest}, Code::kFailedPrecondition);
  expect_refused(catalogue, RevisionRemoved{"m", id("x")}, Code::kNotFound);
  expect_refused(catalogue, ReplicasAdded{"memory-0", {block("q"), {block("a").id, 100}}},
                 Code::kInvalidArgument);
}

TEST(Catalogue, removing_a_revision_takes_it_out_of_histories) {
  Catalogue catalogue;
  const RevisionRecord a = revision("m", "a"), b = revision("m", "b");
  apply_all(catalogue,
            {RevisionSealed{a}, RevisionSealed{b}, TagMoved{"m", "t", a.digest}, TagMoved{"m", "t", b.digest},
             TagMoved{"m", "t", a.digest}, RevisionRemoved{"m", b.digest}});
  EXPECT_EQ(*catalogue.tag("m", "t"), (TagState{a.digest, {}}));
}

}  // namespace
}  // namespace cenote
