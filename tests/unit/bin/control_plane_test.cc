// Goal: the controller and two memory servers, as real daemons, take a deploy, serve its bytes one-sided, survive each other's death,
// and end when asked.
// Method: this process is the deployer and the reader: mTLS calls through wire/, writes and reads through fabric/. State and certificates
// lie in a temporary directory; every daemon is a child that dies with the test. Over tcp on loopback; over verbs where
// CENOTE_TEST_VERBS_ADDRESS names a device's address (tests/verbs).
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

#include "../fabric/provider_address.h"
#include "../wire/certificates.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/units.h"
#include "bin/process.h"
#include "bin/process_usage.h"
#include "fabric/transport.h"
#include "wire/channel.h"
#include "wire/controller_client.h"
#include "wire/memory_client.h"

namespace cenote {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

// Listens on a port of its own, so that it is taken.
class TakenPort {
 public:
  TakenPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(fd_, 1), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    number_ = ntohs(address.sin_port);
  }
  ~TakenPort() { ::close(fd_); }
  uint16_t number() const { return number_; }

 private:
  int fd_;
  uint16_t number_ = 0;
};

const std::string kVerbsAddress = fabric::bind_address_for("verbs");
const bool kOverVerbs = !kVerbsAddress.empty();
const std::string kHost = kOverVerbs ? kVerbsAddress : "127.0.0.1";
// A device in an emulated machine needs its time.
const Duration kLong = Duration::from_seconds(kOverVerbs ? 120 : 30);
const char* const kTimes = kOverVerbs ? "heartbeat_interval = \"500ms\"\nmember_timeout = \"10s\"\n" : "";

uint16_t free_port() { return TakenPort().number(); }

bool eventually(const std::function<bool()>& condition) {
  for (const Instant end = monotonic_now() + kLong; monotonic_now() < end; ::usleep(20'000)) {
    if (condition()) return true;
  }
  return false;
}

std::string read_file(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct Block {
  std::string bytes;
  BlockRef ref;
};
Block make_block(uint64_t seed, uint32_t size) {
  Rng rng(seed);
  Block block{.bytes = std::string(size, '\0')};
  for (char& c : block.bytes) c = static_cast<char>(rng.next());
  block.ref = {.id = sha256(as_bytes(block.bytes)), .size_bytes = size};
  return block;
}

class ControlPlane : public testing::Test {
 protected:
  ControlPlane() {
    char name[] = "/tmp/cenote-control-XXXXXX";
    state_ = ::mkdtemp(name);
    ::mkdir((state_ + "/logs").c_str(), 0700);
    std::filesystem::create_directory_symlink(certificates_.directory(), state_ + "/certificates");
    controller_port_ = free_port();
    const std::string memory = str_cat("[[memory]]\nhost = \"", kHost, "\"\nport = 0\nfabric_port = 0\ncapacity = \"64 MiB\"\nslab_size_max = \"8 MiB\"\n");
    std::ofstream(state_ + "/settings.toml") << "[cluster]\nname = \"test\"\n[controller]\nport = " << controller_port_ << "\n" << kTimes
                                             << "[fabric]\nprovider = \"" << (kOverVerbs ? "verbs;ofi_rxm" : "auto") << "\"\n"
                                             << "[[router]]\nport = 0\n[[agent]]\n[[agent.device]]\nname = \"host:0\"\n"
                                             << memory << memory << "[limits]\ndeploy_lease = \"30s\"\n";
    identity_ = *wire::load_client_identity(certificates_.directory());
    client_ = wire::ControllerClient::open(wire::format_address("127.0.0.1", controller_port_), identity_);
  }
  ~ControlPlane() override {
    daemons_.clear();
    if (HasFailure()) {
      for (const auto& log : std::filesystem::directory_iterator(state_ + "/logs")) std::cerr << "---- " << log.path() << "\n" << read_file(log.path());
    }
    std::filesystem::remove_all(state_);
  }

  void start(const std::string& role, const std::string& name, std::vector<std::string> more = {}) {
    ProcessSpec spec{.arguments = {CENOTED_PROGRAM, role, "--state", state_, "--name", name}, .log_file = state_ + "/logs/" + name + ".log"};
    spec.arguments.insert(spec.arguments.end(), more.begin(), more.end());
    auto process = Process::spawn(spec);
    ASSERT_TRUE(process.ok()) << process.status();
    daemons_.erase(name);
    daemons_.emplace(name, *std::move(process));
  }
  void kill(const std::string& name) {
    daemons_.at(name).signal(SIGKILL);
    ASSERT_TRUE(eventually([&] { return daemons_.at(name).poll_exit().has_value(); }));
  }
  std::string ended(const std::string& name) {
    EXPECT_TRUE(eventually([&] { return daemons_.at(name).poll_exit().has_value(); })) << name << " does not end";
    return daemons_.at(name).poll_exit().value_or("runs");
  }
  bool members_are(std::vector<std::string> names) {
    const auto status = client_->cluster({.timeout = Duration::from_seconds(5)});
    last_seen_ = std::string(status.status().message());
    if (!status.ok()) return false;
    std::vector<std::string> live;
    for (const MemberReport& member : status->members) {
      // A memory server opens slabs from when it knows which catalogue the controller has.
      if (member.role != Role::kMemory || member.lineage != 0) live.push_back(member.name);
    }
    last_seen_ = testing::PrintToString(live);
    return testing::Matches(testing::UnorderedElementsAreArray(names))(live);
  }
  // Deploys of these tests are not renewed: their lease outlasts a slow machine, except where it is to end.
  void start_all(const std::string& lease = "30s") {
    const std::vector<std::string> more = {"--set", "limits.deploy_lease=" + lease};
    start("controller", "controller", more);
    start("memory", "memory-0", more);
    start("memory", "memory-1", more);
    ASSERT_TRUE(eventually([&] { return any_ended() || members_are({"controller", "memory-0", "memory-1"}); })) << last_seen_;
    ASSERT_FALSE(any_ended());
  }
  bool any_ended() {
    return std::any_of(daemons_.begin(), daemons_.end(), [](auto& daemon) { return daemon.second.poll_exit().has_value(); });
  }
  std::map<std::string, MemoryServerInfo> servers() {
    std::map<std::string, MemoryServerInfo> found;
    const auto status = client_->cluster({});
    if (!status.ok()) return found;
    for (const MemberReport& member : status->members) {
      if (member.role == Role::kMemory) found[member.name] = member.memory;
    }
    return found;
  }

  // One one-sided operation between `local` and `remote` bytes of a server; waits for it.
  absl::StatusCode transfer(const std::string& provider, const std::string& address, fabric::RegionKey key, uint64_t offset, std::string& local, bool write) {
    auto transport = fabric::open_transport({.provider = provider, .bind_address = kHost});
    EXPECT_TRUE(transport.ok()) << transport.status();
    auto region = (*transport)->register_memory({reinterpret_cast<std::byte*>(local.data()), local.size()}, fabric::Access::kLocal);
    auto endpoint = (*transport)->connect({provider, address});
    EXPECT_TRUE(region.ok() && endpoint.ok());
    const fabric::RemoteSpan there{key, offset, local.size()};
    const fabric::LocalSpan here{region->get(), 0, local.size()};
    const Instant deadline = monotonic_now() + kLong;
    while (true) {
      const absl::Status posted = write ? (*endpoint)->write(there, here, 1, deadline) : (*endpoint)->read(there, here, 1, deadline);
      if (posted.ok()) break;
      if (posted.code() != StatusCode::kResourceExhausted || monotonic_now() > deadline) return posted.code();
      fabric::Completion none[1];
      (*transport)->poll(none);
    }
    fabric::Completion completion[1];
    while ((*transport)->poll(completion) == 0) (*transport)->wait(Duration::from_ms(100));
    return completion[0].code;
  }

  absl::StatusOr<SealResult> write_block(const MemoryServerInfo& server, const Block& block, bool spoil = false) {
    auto memory = wire::MemoryClient::open(server.control_address, identity_);
    CENOTE_ASSIGN_OR_RETURN(const SlabInfo slab, memory->open_slab(block.bytes.size(), "test", kLong));
    std::string bytes = block.bytes;
    if (spoil) bytes[100] = static_cast<char>(bytes[100] + 1);
    EXPECT_EQ(transfer(slab.fabric_provider, slab.fabric_address, {slab.region_key, slab.region_base}, 0, bytes, true), StatusCode::kOk);
    return memory->seal_slab(slab, {{.offset_bytes = 0, .block = block.ref}}, kLong);
  }
  absl::StatusOr<Grant> grant(const MemoryServerInfo& server, std::vector<Digest> ids) {
    auto memory = wire::MemoryClient::open(server.control_address, identity_);
    std::promise<absl::StatusOr<Grant>> answered;
    memory->grant(std::move(ids), "test", kLong, [&](absl::StatusOr<Grant> grant) { answered.set_value(std::move(grant)); });
    return answered.get_future().get();
  }
  // The block's bytes as the server has them.
  std::string read_block(const MemoryServerInfo& server, const Block& block) {
    const auto granted = grant(server, {block.ref.id});
    if (!granted.ok() || granted->blocks.size() != 1) return "not granted";
    std::string bytes(granted->blocks[0].size_bytes, '\0');
    EXPECT_EQ(transfer(server.fabric_provider, server.fabric_address, {granted->region_key, granted->region_base}, granted->blocks[0].offset_bytes, bytes, false), StatusCode::kOk);
    return bytes;
  }
  RevisionRecord record_of(const std::string& name, const std::vector<Block>& weights, const Block& manifest) {
    RevisionRecord record{.digest = manifest.ref.id, .name = name, .manifest_bytes = manifest.ref.size_bytes, .manifest_blocks = {manifest.ref}};
    for (const Block& block : weights) {
      record.blocks.push_back(block.ref);
      record.weight_bytes += block.ref.size_bytes;
    }
    return record;
  }
  absl::StatusOr<DeployResult> deploy(const std::string& name, const std::vector<Block>& weights, const Block& manifest) {
    std::vector<Block> all = weights;
    all.push_back(manifest);
    DeployRequest request{.name = name, .client = "test"};
    for (const Block& block : all) request.blocks.push_back(block.ref);
    CENOTE_ASSIGN_OR_RETURN(const DeployPlan plan, client_->begin_deploy(request, {.timeout = kLong}));
    std::map<std::string, MemoryServerInfo> by_name;
    for (const MemoryServerInfo& server : plan.servers) by_name[server.name] = server;
    for (const BlockTargets& send : plan.send) {
      for (const std::string& server : send.servers) CENOTE_RETURN_IF_ERROR(write_block(by_name.at(server), all[send.block]).status());
    }
    return client_->commit_deploy(plan.deploy, record_of(name, weights, manifest), "", {.timeout = kLong});
  }
  uint32_t replicas_min(const std::string& name) {
    const auto models = client_->models(name, false, {});
    return models.ok() && models->size() == 1 ? (*models)[0].replicas_min : 0;
  }

  wire::TestCertificates certificates_;
  std::string state_;
  uint16_t controller_port_ = 0;
  wire::Identity identity_;
  std::string last_seen_;  // By members_are().
  std::unique_ptr<wire::ControllerClient> client_;
  std::map<std::string, Process> daemons_;
  const std::vector<Block> weights_{make_block(1, 3 * kMiB + 4096), make_block(2, 12345)};
  const Block manifest_ = make_block(3, 777);
};

TEST_F(ControlPlane, a_deploy_is_read_back_bit_for_bit_from_each_server_and_removed_without_a_trace) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  const auto result = deploy("bert", weights_, manifest_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->already_existed);
  EXPECT_TRUE(eventually([&] { return replicas_min("bert") == 2; })) << "the second server's report may come after the commit";
  for (const auto& [name, server] : servers()) {
    for (const Block& block : weights_) EXPECT_TRUE(read_block(server, block) == block.bytes) << name;
  }
  EXPECT_EQ(deploy("bert", weights_, manifest_).status().code(), StatusCode::kAlreadyExists);

  const auto removed = client_->remove("bert", "", {});
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->freed_bytes, weights_[0].bytes.size() + weights_[1].bytes.size() + manifest_.bytes.size());
  EXPECT_TRUE(eventually([&] {
    for (const auto& [name, server] : servers()) {
      const auto granted = grant(server, {weights_[0].ref.id});
      if (!granted.ok() || granted->missing.empty()) return false;
    }
    return true;
  }));
  EXPECT_EQ(client_->models("bert", false, {}).status().code(), StatusCode::kNotFound);
}

TEST_F(ControlPlane, bytes_that_do_not_hash_to_their_name_are_refused_and_nothing_is_kept) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  const MemoryServerInfo server = servers().at("memory-0");
  EXPECT_EQ(write_block(server, weights_[1], true).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(grant(server, {weights_[1].ref.id})->missing.size(), 1u);
}

TEST_F(ControlPlane, a_slab_cannot_be_written_once_it_is_sealed) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  const MemoryServerInfo server = servers().at("memory-0");
  auto memory = wire::MemoryClient::open(server.control_address, identity_);
  const auto slab = memory->open_slab(weights_[1].bytes.size(), "test", kLong);
  ASSERT_TRUE(slab.ok());
  std::string bytes = weights_[1].bytes;
  const fabric::RegionKey key{slab->region_key, slab->region_base};
  ASSERT_EQ(transfer(slab->fabric_provider, slab->fabric_address, key, 0, bytes, true), StatusCode::kOk);
  ASSERT_TRUE(memory->seal_slab(*slab, {{.offset_bytes = 0, .block = weights_[1].ref}}, kLong).ok());
  std::string other(bytes.size(), 'x');
  // May even seem to succeed on tcp. A device says that the key is revoked.
  const StatusCode written = transfer(slab->fabric_provider, slab->fabric_address, key, 0, other, true);
  if (kOverVerbs) EXPECT_EQ(written, StatusCode::kUnavailable);
  EXPECT_TRUE(read_block(server, weights_[1]) == weights_[1].bytes);
}

TEST_F(ControlPlane, a_slab_cannot_be_written_once_its_time_is_over_or_it_was_abandoned) {
  ASSERT_NO_FATAL_FAILURE(start_all("8s"));
  const MemoryServerInfo server = servers().at("memory-0");
  auto memory = wire::MemoryClient::open(server.control_address, identity_);
  const auto expiring = memory->open_slab(12345, "test", kLong);
  const auto abandoned = memory->open_slab(12345, "test", kLong);
  ASSERT_TRUE(expiring.ok() && abandoned.ok());
  ASSERT_TRUE(memory->abandon_slab(*abandoned, kLong).ok());
  std::string bytes(12345, 'x');
  const auto write = [&](const SlabInfo& slab) { return transfer(slab.fabric_provider, slab.fabric_address, {slab.region_key, slab.region_base}, 0, bytes, true); };
  if (kOverVerbs) EXPECT_EQ(write(*abandoned), StatusCode::kUnavailable);
  const auto slabs_open = [&]() -> uint64_t {
    const auto status = client_->cluster({});
    if (!status.ok()) return 99;
    for (const MemberReport& member : status->members) {
      if (member.name == "memory-0") return member.slabs_open;
    }
    return 99;
  };
  ASSERT_TRUE(eventually([&] { return slabs_open() == 1; }));  // It has told the controller.
  ASSERT_TRUE(eventually([&] { return slabs_open() == 0; })) << "the slab's duration is " << expiring->duration.ms() << " ms";
  if (kOverVerbs) EXPECT_EQ(write(*expiring), StatusCode::kUnavailable);
  EXPECT_FALSE(memory->seal_slab(*expiring, {{.offset_bytes = 0, .block = weights_[1].ref}}, kLong).ok());
}

TEST_F(ControlPlane, the_arena_can_be_read_with_a_grant_but_not_written) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  const MemoryServerInfo server = servers().at("memory-0");
  ASSERT_TRUE(write_block(server, weights_[1]).ok());
  const auto granted = grant(server, {weights_[1].ref.id});
  ASSERT_TRUE(granted.ok() && granted->blocks.size() == 1);
  std::string other(weights_[1].bytes.size(), 'x');
  const StatusCode written = transfer(server.fabric_provider, server.fabric_address, {granted->region_key, granted->region_base}, granted->blocks[0].offset_bytes, other, true);
  if (kOverVerbs) EXPECT_EQ(written, StatusCode::kUnavailable);
  EXPECT_TRUE(read_block(server, weights_[1]) == weights_[1].bytes);
}

TEST_F(ControlPlane, serving_goes_on_without_the_controller_and_a_new_one_knows_everything) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  ASSERT_TRUE(deploy("bert", weights_, manifest_).ok());
  const auto before = servers();
  kill("controller");
  for (const auto& [name, server] : before) EXPECT_TRUE(read_block(server, weights_[1]) == weights_[1].bytes);
  start("controller", "controller");
  EXPECT_TRUE(eventually([&] { return replicas_min("bert") == 2; }));
  EXPECT_EQ(client_->models("bert", true, {})->at(0).record.blocks.size(), 2u);
}

TEST_F(ControlPlane, a_memory_server_that_died_comes_back_empty_and_its_replicas_are_not_counted) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  ASSERT_TRUE(deploy("bert", weights_, manifest_).ok());
  kill("memory-0");
  EXPECT_TRUE(eventually([&] { return replicas_min("bert") == 1; }));
  start("memory", "memory-0");
  ASSERT_TRUE(eventually([&] { return members_are({"controller", "memory-0", "memory-1"}); }));
  EXPECT_EQ(replicas_min("bert"), 1u);
  EXPECT_TRUE(read_block(servers().at("memory-1"), weights_[0]) == weights_[0].bytes);
}

TEST_F(ControlPlane, a_deploy_that_is_not_renewed_loses_its_lease) {
  ASSERT_NO_FATAL_FAILURE(start_all("1s"));
  DeployRequest request{.name = "bert", .blocks = {weights_[0].ref, manifest_.ref}, .client = "test"};
  const auto plan = client_->begin_deploy(request, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(client_->renew_deploy(plan->deploy, {}).ok());
  EXPECT_TRUE(eventually([&] { return client_->renew_deploy(plan->deploy + 1, {}).code() == StatusCode::kNotFound; }));
  ::usleep(1'500'000);  // Longer than the lease: whatever the machine's speed, it is over then.
  EXPECT_EQ(client_->renew_deploy(plan->deploy, {}).code(), StatusCode::kNotFound);
}

TEST_F(ControlPlane, daemons_end_cleanly_on_sigterm) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  for (auto& [name, daemon] : daemons_) daemon.signal(SIGTERM);
  for (auto& [name, daemon] : daemons_) EXPECT_EQ(ended(name), "exit 0") << name;
}

TEST_F(ControlPlane, a_second_daemon_of_the_same_name_is_refused_and_the_first_goes_on) {
  ASSERT_NO_FATAL_FAILURE(start_all());
  ProcessSpec spec{.arguments = {CENOTED_PROGRAM, "memory", "--state", state_, "--name", "memory-0"}, .log_file = state_ + "/logs/second.log"};
  auto second = Process::spawn(spec);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(eventually([&] { return read_file(state_ + "/logs/memory-0.log").find("name of its own") != std::string::npos; }));
  EXPECT_TRUE(members_are({"controller", "memory-0", "memory-1"}));
}

TEST_F(ControlPlane, a_taken_port_missing_certificates_and_unknown_names_say_what_to_do) {
  start("controller", "controller");
  ASSERT_TRUE(eventually([&] { return members_are({"controller"}); }));
  const TakenPort taken;
  start("memory", "memory-0", {"--set", str_cat("memory[0].port=", taken.number())});
  EXPECT_EQ(ended("memory-0"), "exit 6");
  EXPECT_THAT(read_file(state_ + "/logs/memory-0.log"), HasSubstr(std::to_string(taken.number())));
  start("memory", "memory-9");
  EXPECT_EQ(ended("memory-9"), "exit 2");
  EXPECT_THAT(read_file(state_ + "/logs/memory-9.log"), HasSubstr("memory-9"));
  std::filesystem::remove(state_ + "/certificates");
  start("memory", "memory-1");
  EXPECT_EQ(ended("memory-1"), "exit 7");
  EXPECT_THAT(read_file(state_ + "/logs/memory-1.log"), HasSubstr("certificates"));
}

}  // namespace
}  // namespace cenote
