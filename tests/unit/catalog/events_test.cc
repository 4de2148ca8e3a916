// Goal: events come back as written, their bytes are those on file, and anything else is refused.
#include "catalog/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "../golden.h"
#include "base/hash.h"

namespace cenote {
namespace {

using testing::HasSubstr;

Digest id(const std::string& seed) {
  return sha256(as_bytes(seed));
}

struct Named {
  const char* file;
  CatalogueEvent event;
};

std::vector<Named> samples() {
  RevisionRecord record{.digest = id("r"),
                        .name = "gpt2",
                        .manifest_bytes = 700,
                        .manifest_blocks = {{id("m"), 700}},
                        .blocks = {{id("a"), 4096}, {id("b"), 8192}, {id("a"), 4096}},
                        .file_blocks = {{id("f"), 10}},
                        .weight_bytes = 16384,
                        .created_us = 1700000000000000,
                        .device_filter = "host:0"};
  return {{"event_revision_sealed_v1.bin", RevisionSealed{record}},
          {"event_tag_moved_v1.bin", TagMoved{"gpt2", "latest", id("r"), true}},
          {"event_tag_removed_v1.bin", TagRemoved{"gpt2", "latest"}},
          {"event_revision_removed_v1.bin", RevisionRemoved{"gpt2", id("r")}},
          {"event_replicas_added_v1.bin", ReplicasAdded{"memory-0", {{id("a"), 4096}, {id("b"), 8192}}}},
          {"event_replicas_lost_v1.bin", ReplicasLost{"memory-0", false, {id("a")}}},
          {"event_prefetch_set_v1.bin", PrefetchSet{id("r"), false}},
          {"event_operation_done_v1.bin",
           OperationDone{"0123456789abcdef", id("asked"), "gpt2", "latest", id("r"), id("p"), true, {id("x")}, 77}},
          {"event_lineage_set_v1.bin", LineageSet{0x1122334455667788, "restored from a backup"}},
          {"event_revision_labelled_v1.bin", RevisionLabelled{"gpt2", id("r"), {id("l"), 1021}}},
          {"event_name_owned_v1.bin", NameOwned{"gpt2", "vision"}}};
}

TEST(Events, encodings_are_those_on_file_and_come_back) {
  for (const Named& sample : samples()) {
    const std::string bytes = encode_event(sample.event);
    expect_golden(sample.file, bytes);
    const auto decoded = decode_event(read_golden(sample.file));
    ASSERT_TRUE(decoded.ok()) << sample.file << decoded.status();
    EXPECT_TRUE(*decoded == sample.event) << sample.file;
  }
}

TEST(Events, truncated_extended_and_newer_events_are_refused) {
  for (const Named& sample : samples()) {
    const std::string bytes = encode_event(sample.event);
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_FALSE(decode_event(bytes.substr(0, size)).ok()) << sample.file << size;
    EXPECT_FALSE(decode_event(bytes + "x").ok());
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(decode_event("\x02\x01").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(decode_event("\x01\x0c").status()));
  EXPECT_THAT(decode_event("\x01\x63").status().message(), HasSubstr("use the Cenote that wrote it"));
}

TEST(Events, impossible_contents_are_refused) {
  const auto message = [](CatalogueEvent event) {
    return std::string(decode_event(encode_event(event)).status().message());
  };
  RevisionRecord record = std::get<RevisionSealed>(samples()[0].event).record;
  record.weight_bytes = 1;
  EXPECT_THAT(message(RevisionSealed{record}), HasSubstr("1 bytes of weights in blocks of 16384"));
  record = std::get<RevisionSealed>(samples()[0].event).record;
  record.blocks[2].size_bytes = 4095;
  EXPECT_THAT(message(RevisionSealed{record}), HasSubstr("here and 4096 there"));
  record = std::get<RevisionSealed>(samples()[0].event).record;
  record.manifest_blocks.clear();
  EXPECT_THAT(message(RevisionSealed{record}), HasSubstr("a manifest of 700 bytes in blocks of 0"));
  EXPECT_THAT(message(TagMoved{"../x", "latest", id("r")}), HasSubstr("model name '../x'"));
  EXPECT_THAT(message(TagMoved{"x", "latest", Digest{}}), HasSubstr("without target"));
  EXPECT_THAT(message(ReplicasAdded{"", {}}), HasSubstr("server's name"));
  EXPECT_THAT(message(ReplicasAdded{"m", {{id("a"), 5 << 20}}}), HasSubstr("5242880 bytes"));
  EXPECT_THAT(message(ReplicasLost{"m", true, {id("a")}}), HasSubstr("all blocks lost, and a list"));
  EXPECT_THAT(message(PrefetchSet{}), HasSubstr("without digest"));
  EXPECT_THAT(message(OperationDone{"short", id("asked")}), HasSubstr("id of 5 bytes, 16 are needed"));
  EXPECT_THAT(message(LineageSet{}), HasSubstr("without lineage"));
  EXPECT_THAT(message(NameOwned{"m", ""}), HasSubstr("tenant's name of 0 bytes"));
  EXPECT_THAT(message(RevisionLabelled{"m", id("r"), {id("l"), 0}}), HasSubstr("0 bytes"));
  record = std::get<RevisionSealed>(samples()[0].event).record;
  record.label = {id("l"), 1021};
  EXPECT_THAT(std::string(check_event(RevisionSealed{record}).message()), HasSubstr("an event of its own"));
}

RC_GTEST_PROP(EventsProperty, damage_never_crashes, ()) {
  const std::vector<Named> all = samples();
  std::string bytes = encode_event(all[*rc::gen::inRange<size_t>(0, all.size())].event);
  for (int i = *rc::gen::inRange(1, 5); i > 0; --i)
    bytes[*rc::gen::inRange<size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
  const auto decoded = decode_event(bytes);
  if (decoded.ok()) RC_ASSERT(encode_event(*decoded) == bytes);
}

}  // namespace
}  // namespace cenote
