// Goal: every message survives its round trip through protobuf, its bytes on the wire stay what they are (a peer of another build
// reads them), and messages that lie about lengths, enums or digests are refused with the field's name.
// Method: samples.h filled in every field; golden files tests/data/wire/*.bin; one bad field at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../golden.h"
#include "base/units.h"
#include "samples.h"
#include "wire/bounds.h"
#include "wire/convert_control.h"
#include "wire/convert_infer.h"
#include "wire/convert_link.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

using testing::HasSubstr;

// Struct -> bytes equals the golden file; golden file -> struct -> bytes gives the same bytes again: no field is lost on the way in.
template <typename Proto, typename Message>
void check_round_trip(const std::string& name, Message message) {
  Proto proto;
  to_proto(std::move(message), &proto);
  const std::string bytes = proto.SerializeAsString();
  expect_golden("wire/" + name + ".bin", bytes);
  Proto parsed;
  ASSERT_TRUE(parsed.ParseFromString(bytes)) << name;
  auto again = from_proto(std::move(parsed));
  ASSERT_TRUE(again.ok()) << name << ": " << again.status();
  Proto second;
  to_proto(*std::move(again), &second);
  EXPECT_TRUE(second.SerializeAsString() == bytes) << name << " lost something:\n" << second.DebugString();
}

TEST(Convert, every_record_survives_and_keeps_its_bytes) {
  check_round_trip<v1::RevisionRecord>("revision_record", sample_record());
  check_round_trip<v1::MemoryServerInfo>("memory_server_info", sample_server("memory-0"));
  check_round_trip<v1::GrantRequest>("grant_request", GrantAsk{.ids = {sample_digest(1), sample_digest(2)}, .holder = "agent-0", .wait = Duration::from_ms(5)});
  check_round_trip<v1::GrantReply>("grant_reply", sample_grant());
  check_round_trip<v1::OpenSlabRequest>("open_slab_request", SlabAsk{.size_bytes = 1 << 22, .writer = "deploy 3"});
  check_round_trip<v1::OpenSlabReply>("open_slab_reply", sample_slab());
  check_round_trip<v1::SealSlabRequest>("seal_slab_request", SealAsk{.slab = 3, .incarnation = 5, .ranges = {{.offset_bytes = 4096, .block = sample_block(2)}}});
  check_round_trip<v1::SealSlabReply>("seal_slab_reply", SealResult{.sealed_bytes = 5, .deduplicated_bytes = 6});
}

TEST(Convert, every_report_and_directive_survives_and_keeps_its_bytes) {
  check_round_trip<v1::MemberReport>("member_report", sample_member());
  check_round_trip<v1::Directive>("directive_assignment", Directive(sample_assignment()));
  check_round_trip<v1::Directive>("directive_view", Directive(sample_view()));
  check_round_trip<v1::Directive>("directive_memory", Directive(MemoryDirective{.version = 3, .drop = {sample_digest(1)}, .send_inventory = true, .lineage = 77, .lineage_sequence = 13,
                                                        .copy = {{.block = sample_block(2), .sources = {"memory-1", "memory-0"}}}, .sources = {sample_server("memory-0"), sample_server("memory-1")},
                                                        .check = {sample_digest(4)}}));
  check_round_trip<v1::Directive>("directive_heartbeat", Directive(Heartbeat{}));
  check_round_trip<v1::Directive>("directive_drain", Directive(DrainMember{}));
  check_round_trip<v1::Directive>("directive_suspects", Directive(Suspects{{"memory-0", "agent-1"}}));
  check_round_trip<v1::Directive>("directive_refused", Directive(Refused{absl::AlreadyExistsError("two of this name")}));
}

TEST(Convert, every_deploy_and_listing_message_survives_and_keeps_its_bytes) {
  check_round_trip<v1::BeginDeployRequest>("begin_deploy_request", sample_deploy());
  check_round_trip<v1::BeginDeployReply>("begin_deploy_reply", sample_plan());
  check_round_trip<v1::CommitDeployReply>("commit_deploy_reply", DeployResult{.digest = sample_digest(3), .name = "bert", .tag = "v1", .already_existed = true});
  check_round_trip<v1::TagReply>("tag_reply", TagMove{.name = "bert", .tag = "v1", .revision = sample_digest(3), .previous = sample_digest(2)});
  check_round_trip<v1::RemoveReply>("remove_reply", Removal{.revisions = {sample_digest(3)}, .freed_bytes = 7});
  check_round_trip<v1::ModelInfo>("model_info", sample_model());
  check_round_trip<v1::ClusterReply>("cluster_reply", ClusterStatus{.cluster = "local", .members = {sample_member()}, .lost = {sample_member()}, .events = 12, .held_because = "restored",
                                        .tenants = {{.name = "vision", .used_bytes = 1, .pool_bytes_max = 2, .models = 3, .models_max = 4}},
                                        .repair = {.short_blocks = 1, .short_bytes = 2, .lost_blocks = 3, .copying = 4, .copied_blocks = 5, .copied_bytes = 6, .bytes_per_second = 7},
                                        .excluded = {{.server = "memory-1", .reason = "slow", .since = Duration::from_ms(8)}}});
  check_round_trip<v1::ReadEventsReply>("read_events_reply", EventPage{.cluster = "local", .first = 3, .last = 9, .events = {"one", "two"}});
  check_round_trip<v1::FindUnclaimedReply>("find_unclaimed_reply", sample_unclaimed());
}

TEST(Convert, every_session_message_survives_and_keeps_its_bytes) {
  check_round_trip<v1::Infer>("infer", sample_request());
  check_round_trip<v1::Reply>("reply", sample_reply());
  check_round_trip<v1::Ticket>("ticket", sample_ticket());
  check_round_trip<v1::Reserve>("reserve", ReserveSlot{.id = {.high = 1, .low = 2}, .revision = sample_digest(3), .expires_in = Duration::from_seconds(10)});
  check_round_trip<v1::Welcome>("welcome", Welcome{.incarnation = 7, .name = "router-0", .credits = 4096, .draining = true, .beat = Duration::from_ms(40)});
  const auto check_down = [](const std::string& name, InferDown message) {
    const std::string bytes = to_proto(std::move(message)).SerializeAsString();
    expect_golden("wire/" + name + ".bin", bytes);
    v1::InferenceDown parsed;
    ASSERT_TRUE(parsed.ParseFromString(bytes));
    auto again = from_proto(std::move(parsed));
    ASSERT_TRUE(again.ok()) << name << ": " << again.status();
    EXPECT_TRUE(to_proto(*std::move(again)).SerializeAsString() == bytes) << name;
  };
  check_down("down_reply", sample_reply());
  check_down("down_ticket", sample_ticket());
  check_down("down_released", SlotReleased{.id = {.high = 1, .low = 2}, .status = absl::CancelledError("")});
  check_down("down_beat", PeerBeat{Duration::from_ms(40)});
  check_down("down_stuck", RequestStuck{{.high = 1, .low = 2}});
  check_down("down_credits", CreditsChanged{.credits = 3, .draining = true});
}

TEST(Convert, every_link_message_survives_and_keeps_its_bytes) {
  check_round_trip<v1::ExecutorUp>("up_report", ExecutorUp(sample_executor()));
  check_round_trip<v1::ExecutorUp>("up_acquire", ExecutorUp(Acquire{.ticket = 8, .revision = sample_digest(3), .urgent = true}));
  check_round_trip<v1::ExecutorUp>("up_want", ExecutorUp(Want{.revision = sample_digest(3), .chunks = {{.block = 2, .chunks = 0x8001}}}));
  check_round_trip<v1::ExecutorUp>("up_release", ExecutorUp(ReleaseRevision{sample_digest(3)}));
  check_round_trip<v1::ExecutorUp>("up_beat", ExecutorUp(AttachBeat{Duration::from_ms(40)}));
  check_round_trip<v1::ExecutorDown>("down_attach_beat", ExecutorDown(AttachBeat{Duration::from_ms(40)}));
  check_round_trip<v1::ExecutorDown>("down_attached", ExecutorDown(Attached{"/dev/shm/x", 1 << 30, "agent-0/host:0"}));
  check_round_trip<v1::ExecutorDown>("down_acquired", ExecutorDown(sample_acquired()));
  check_round_trip<v1::ExecutorDown>("down_prefetch", ExecutorDown(Prefetch{{sample_digest(3)}}));
  check_round_trip<v1::ExecutorDown>("down_evict", ExecutorDown(EvictRevision{sample_digest(3)}));
  check_round_trip<v1::ExecutorDown>("down_drain", ExecutorDown(DrainExecutor{}));
  check_round_trip<v1::ExecutorDown>("down_fetched", ExecutorDown(sample_fetch_done()));
}

TEST(Convert, an_assignments_replicas_keep_their_order_and_unknown_servers_are_left_out) {
  Assignment assignment = sample_assignment();
  assignment.replicas[sample_digest(2)] = {"memory-1", "gone", "memory-0"};
  v1::Assignment proto;
  to_proto(assignment, &proto);
  const auto again = from_proto(proto);
  ASSERT_TRUE(again.ok());
  EXPECT_THAT(again->replicas.at(sample_digest(2)), testing::ElementsAre("memory-1", "memory-0"));
}

TEST(Convert, a_replys_and_a_requests_bytes_are_moved_not_copied) {
  Tensor tensor{.name = "x", .dtype = DType::kU8, .shape = {1 << 20}, .bytes = std::string(1 << 20, 'x')};
  const void* bytes = tensor.bytes.data();
  v1::Reply proto;
  InferReply made;
  made.outputs.push_back(std::move(tensor));
  to_proto(std::move(made), &proto);
  EXPECT_EQ(proto.outputs(0).data().data(), bytes);
  const auto reply = from_proto(std::move(proto));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->outputs[0].bytes.data(), bytes);
}

// ---- what is refused ----------------------------------------------------------------------------------------------------
template <typename Proto>
void expect_refused(Proto proto, const std::string& text) {
  const auto message = from_proto(std::move(proto));
  ASSERT_FALSE(message.ok()) << text;
  EXPECT_THAT(std::string(message.status().message()), HasSubstr(text));
}

template <typename Change>
v1::Infer bad_infer(Change&& change) {
  v1::Infer proto;
  to_proto(sample_request(), &proto);
  change(proto);
  return proto;
}

TEST(Hostile, requests_with_lying_tensors_are_refused) {
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->mutable_data()->pop_back(); }), "11 bytes given");
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->clear_data(); }), "0 bytes given");
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->set_dtype(11); }), "dtype 11");
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->set_dtype(257); }), "dtype 257");
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->set_shape(0, -1); }), "negative");
  expect_refused(bad_infer([](auto& p) { for (int i = 0; i < 40; ++i) p.mutable_inputs(0)->add_shape(1); }), "tensor dimensions");
  expect_refused(bad_infer([](auto& p) {
                   p.mutable_inputs(0)->mutable_shape()->Resize(2, 1);
                   p.mutable_inputs(0)->set_shape(0, int64_t{1} << 62);
                   p.mutable_inputs(0)->set_shape(1, 4);
                 }), "2^63");
  expect_refused(bad_infer([](auto& p) { for (size_t i = 0; i <= kTensorsMax; ++i) p.add_inputs(); }), "inputs: 1026 entries");
  expect_refused(bad_infer([](auto& p) { p.mutable_inputs(0)->set_name(std::string(513, 'n')); }), "tensor name");
}

TEST(Hostile, a_message_carries_so_many_others_in_order_and_none_that_carry_others) {
  v1::InferenceUp proto = to_proto(CancelInfer{{1, 0}});
  for (uint64_t n = 1; n < kMergedMax; ++n) *proto.add_more() = to_proto(CancelInfer{{1, n}});
  std::vector<uint64_t> taken;
  const auto take = [&](InferUp up) { taken.push_back(std::get<CancelInfer>(up).id.low); };
  ASSERT_TRUE(take_each(v1::InferenceUp(proto), take).ok());
  ASSERT_EQ(taken.size(), kMergedMax);
  EXPECT_TRUE(std::is_sorted(taken.begin(), taken.end()));
  taken.clear();
  v1::InferenceUp many = proto;
  *many.add_more() = to_proto(CancelInfer{{1, 1000}});
  EXPECT_THAT(take_each(std::move(many), take).message(), HasSubstr("messages in one"));
  EXPECT_TRUE(taken.empty());
  *proto.mutable_more(5)->add_more() = to_proto(CancelInfer{{1, 2000}});
  EXPECT_EQ(take_each(std::move(proto), take).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(taken.size(), 6u);
  v1::InferenceUp nothing = to_proto(CancelInfer{{1, 0}});
  nothing.add_more();  // Of no kind.
  EXPECT_EQ(take_each(std::move(nothing), take).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Hostile, a_ticket_request_may_leave_its_bytes_behind_but_not_ask_for_more_than_a_payload_may_have) {
  v1::Infer proto = bad_infer([](auto& p) {
    p.set_by_ticket(true);
    p.mutable_inputs(0)->clear_data();
    p.mutable_inputs(0)->mutable_shape()->Resize(1, 0);
    p.mutable_inputs(0)->set_shape(0, 1000);
  });
  const auto request = from_proto(v1::Infer(proto));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->payload_bytes, 4000u);
  proto.mutable_inputs(0)->set_shape(0, kPayloadBytesMax / 4 + 1);
  EXPECT_EQ(from_proto(std::move(proto)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Hostile, digests_and_durations_outside_their_bounds_are_refused) {
  expect_refused(bad_infer([](auto& p) { p.set_revision("short"); }), "revision: 5 bytes");
  v1::ExecutorUp release;
  release.mutable_release()->set_revision(std::string(32, '\0'));
  expect_refused(release, "released revision: 32 zero bytes");
  expect_refused(bad_infer([](auto& p) { p.set_budget_us(-1); }), "budget");
  expect_refused(bad_infer([](auto& p) { p.set_budget_us(INT64_MAX); }), "budget");
  expect_refused(bad_infer([](auto& p) { p.set_model(std::string(600, 'm')); }), "model");
}

TEST(Hostile, an_operation_of_another_length_is_refused) {
  v1::BeginDeployRequest proto;
  to_proto(sample_deploy(), &proto);
  proto.set_operation("short");
  expect_refused(proto, "operation: 5 bytes, none or 16");
}

TEST(Hostile, enums_of_another_version_are_refused) {
  v1::RevisionState state;
  state.set_revision(digest_bytes(sample_digest(1)));
  state.set_readiness(6);
  expect_refused(state, "readiness: 6");
  v1::MemberReport report;
  report.set_role(7);
  expect_refused(report, "role: 7");
  report.set_role(0);
  expect_refused(report, "role: 0");
  v1::Waterfall waterfall;
  waterfall.set_temperature(4);
  expect_refused(waterfall, "temperature: 4");
  v1::Welcome welcome;
  welcome.set_protocol(2);
  EXPECT_EQ(from_proto(welcome).status().code(), absl::StatusCode::kFailedPrecondition);
  expect_refused(v1::Directive(), "does not know");
  expect_refused(v1::InferenceUp(), "does not know");
  expect_refused(v1::InferenceDown(), "does not know");
  expect_refused(v1::ExecutorUp(), "does not know");
  expect_refused(v1::ExecutorDown(), "does not know");
}

TEST(Hostile, blocks_extents_and_replicas_outside_their_bounds_are_refused) {
  v1::BlockRef block;
  block.set_id(digest_bytes(sample_digest(1)));
  expect_refused(block, "0 bytes");
  block.set_size_bytes(kBlockBytesMax + 1);
  expect_refused(block, "allowed are 1 to");
  v1::CacheExtent extent;
  extent.set_size_bytes(4096);
  extent.set_offset_bytes(UINT64_MAX);
  expect_refused(extent, "cache extent");
  v1::WantedChunks wanted;
  wanted.set_chunks(0x10000);
  expect_refused(wanted, "wanted chunks");
  v1::Assignment assignment;
  to_proto(sample_assignment(), &assignment);
  assignment.mutable_replicas(0)->set_servers(0, 2);
  expect_refused(assignment, "server 2 of 2");
  v1::MemoryServerInfo server;
  server.set_fabric_address(std::string(257, 'a'));
  expect_refused(server, "fabric_address: 257 bytes");
}

TEST(StatusText, is_cut_and_made_valid_utf8) {
  EXPECT_EQ(utf8_text("gr\xc3\xbc\xc3\x9f", 100), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(utf8_text("gr\xc3\xbc", 3), "gr");
  EXPECT_EQ(utf8_text("a\xff\xc3", 100), "a??");
  EXPECT_EQ(utf8_text("\xed\xa0\x80", 100), "???");  // A surrogate.
  EXPECT_EQ(utf8_text("\xc0\xaf", 100), "??");       // Overlong.
  v1::Status proto;
  to_proto(absl::InternalError(std::string(100'000, 'x') + "\xff"), &proto);
  EXPECT_EQ(proto.message().size(), kStatusTextBytesMax);
  proto.set_code(99);
  EXPECT_EQ(from_proto(proto).code(), absl::StatusCode::kUnknown);
}

}  // namespace
}  // namespace cenote::wire
