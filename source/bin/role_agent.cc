// The agent's role: node/agent.h joined with the host's cache, the fetcher, executors as processes, gRPC and the controller.
//
// Threads: this one makes the cache (so that executors inherit its mount), steps the state machine and spawns executors; the fetcher's
// own; a worker that checks manifests and prepares pages; gRPC's post events.
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/units.h"
#include "bin/agent_grants.h"
#include "bin/agent_manifest.h"
#include "bin/controller_news.h"
#include "bin/controller_pulse.h"
#include "bin/mailbox.h"
#include "bin/process.h"
#include "bin/process_usage.h"
#include "bin/roles.h"
#include "bin/worker.h"
#include "cache/host_cache.h"
#include "load/fetcher.h"
#include "node/agent.h"
#include "wire/agent_service.h"
#include "wire/controller_link.h"
#include "wire/server.h"

namespace cenote {
namespace {

struct LinkUp {};
struct PagesReady {};
using Event = std::variant<node::agent::Event, LinkUp, PagesReady, Directive>;

constexpr size_t kDoubtfulMax = 1024;  // More wait until the next report was sent.
constexpr size_t kEventsMax = 65536;
// Free cache whose pages are made ready while nothing is fetched, and how much of it at a time.
constexpr uint64_t kReadyBytes = 256 * kMiB;
constexpr uint64_t kReadyStepBytes = 16 * kMiB;

class AgentRole {
 public:
  AgentRole(const RoleContext& context, const AgentSettings& settings) : context_(context), settings_(settings), mailbox_(kEventsMax) {}
  ~AgentRole() { stop(); }

  absl::Status run() {
    CENOTE_RETURN_IF_ERROR(start());
    loop();
    LOG_INFO("stopping");
    stop();
    return drained_by_controller_ ? absl::CancelledError("drained by the controller's word") : absl::OkStatus();
  }

 private:
  std::string run_path(std::string_view ending) const { return str_cat(context_.state_directory, "/run/", context_.name, ending); }

  absl::Status start() {
    CENOTE_ASSIGN_OR_RETURN(program_, own_program());
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_node_identity(context_.state_directory + "/certificates"));
    const std::string run_directory = context_.state_directory + "/run";
    if (::mkdir(run_directory.c_str(), 0700) != 0 && errno != EEXIST) return errno_status(errno, run_directory);
    // First of all: threads and children that come later see the cache's mount.
    CENOTE_ASSIGN_OR_RETURN(cache_, cache::HostCache::create({.directory = settings_.cache_directory,
                                                              .name = str_cat(context_.settings.name, "-", context_.name),
                                                              .data_bytes = settings_.cache_capacity_bytes,
                                                              .incarnation = incarnation_,
                                                              .mount_point = settings_.cache_directory_auto ? run_path(".cache") : ""}));
    if (!cache_->note().empty()) LOG_INFO("{}", cache_->note());
    exits_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (exits_ < 0) return errno_status(errno, "epoll_create1");
    worker_ = std::make_unique<Worker>();
    CENOTE_RETURN_IF_ERROR(start_fetcher(identity));
    machine_ = std::make_unique<node::Agent>(machine_options());
    processes_.resize(settings_.devices.size());
    service_ = wire::AgentService::create({.on_message =
                                               [this](wire::StreamId stream, ExecutorUp message) {
                                                 const absl::Status status = mailbox_.post(said(stream, std::move(message)));
                                                 if (!status.ok()) service_->close(stream, status);
                                               },
                                           .on_closed =
                                               [this](wire::StreamId stream, const absl::Status&) {
                                                 mailbox_.post_answer(node::agent::Event(node::agent::StreamEnded{stream}));
                                               }});
    CENOTE_ASSIGN_OR_RETURN(server_, wire::Server::start({.unix_path = run_path(".sock")}, wire::unix_server_credentials(), {service_->service()}));
    const ControllerSettings& controller = context_.settings.controller;
    link_ = wire::ControllerLink::open({.address = wire::format_address(controller.host, controller.port), .identity = identity},
                                       {.on_connected = [this] { mailbox_.post_answer(LinkUp{}); },
                                        .on_directive =
                                            [this](Directive directive) {
                                              controller_news_.spoke();
                                              mailbox_.post_answer(std::move(directive));
                                            },
                                        .on_disconnected = [this](const absl::Status& why) { controller_news_.disconnected(why); }});
    LOG_INFO("agent with {} devices, cache of {} at {}, pid {}", settings_.devices.size(), format_bytes(cache_->data_bytes()), cache_->path(),
             ::getpid());
    return absl::OkStatus();
  }

  static absl::StatusOr<std::string> own_program() {
    char program[4096];
    const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program);
    if (length <= 0) return errno_status(errno, "/proc/self/exe");
    return std::string(program, static_cast<size_t>(length));
  }

  static Event said(wire::StreamId stream, ExecutorUp message) {
    return node::agent::Event(node::agent::ExecutorSaid{stream, std::move(message)});
  }

  absl::Status start_fetcher(const wire::Identity& identity) {
    CENOTE_ASSIGN_OR_RETURN(auto transport,
                            fabric::open_transport({.provider = context_.settings.fabric_provider, .bind_address = settings_.host}));
    load::FetcherOptions options;
    options.limits.read_bytes = settings_.read_bytes;
    options.servers.read_timeout = settings_.read_timeout;
    options.servers.silence_max = context_.settings.silence_max;
    options.reads_in_flight = settings_.reads_in_flight;
    options.link_gb_per_s = settings_.link_gb_per_s;
    if (settings_.link_gb_per_s > 0) LOG_INFO("fetching is paced to {} GB/s", settings_.link_gb_per_s);
    grants_ = std::make_unique<AgentGrants>(identity, context_.name, settings_.read_timeout,
                                            [this](std::string server, Instant sent_at, absl::StatusOr<Grant> grant) {
                                              fetcher_->granted(std::move(server), sent_at, std::move(grant));
                                            });
    CENOTE_ASSIGN_OR_RETURN(
        fetcher_, load::Fetcher::start(std::move(transport), *cache_, options,
                                       {.ask_grant = [this](const std::string& server,
                                                            std::vector<Digest> blocks) { grants_->ask(server, std::move(blocks)); },
                                        .on_done =
                                            [this](FetchResult result) {
                                              mailbox_.post_answer(node::agent::Event(node::agent::FetchEnded{std::move(result)}));
                                            },
                                        .on_doubt =
                                            [this](DoubtfulReplica replica) {
                                              const std::lock_guard lock(doubtful_mutex_);
                                              if (doubtful_.size() < kDoubtfulMax) doubtful_.insert(std::move(replica));
                                            }}));
    return absl::OkStatus();
  }

  node::AgentOptions machine_options() const {
    node::AgentOptions options{.name = context_.name,
                               .cache_bytes = cache_->data_bytes(),
                               .cache_words = cache_->word_count(),
                               .cache_path = cache_->path(),
                               .cache_file_bytes = cache_->file_bytes(),
                               .check_cached = settings_.check_cached};
    for (const DeviceSettings& device : settings_.devices) options.devices.push_back(device.name);
    options.beat = beat_interval(context_.settings.silence_max);
    options.silence_max = std::max(options.silence_max, context_.settings.controller.heartbeat_interval * 4);
    return options;
  }

  void loop() {
    Instant next_report = monotonic_now();
    Instant drain_end = Instant::infinite_future();  // Set once draining.
    std::vector<Event> events;
    std::vector<node::agent::Event> inputs;
    while (true) {
      const bool draining = drain_end != Instant::infinite_future();
      const Instant now = monotonic_now();
      pulse_.step(now, *link_);
      if (!draining && (drained_by_controller_ || context_.stop_requested())) {
        drain_end = now + context_.settings.drain_timeout;
        inputs.push_back(node::agent::DrainBegan{});
        next_report = now;  // The controller hears of it.
      }
      while (true) {  // Actions may answer at once, e.g. with a process that was spawned.
        std::vector<node::agent::Action> actions;
        machine_->step(now, inputs, actions);
        inputs.clear();
        for (node::agent::Action& action : actions) {
          std::visit([&](auto& a) { perform(a, inputs); }, action);
        }
        if (inputs.empty()) break;
      }
      if (machine_->drained() || now >= drain_end) return;
      if (now >= next_report) {
        report();
        prepare_pages();
        next_report = now + context_.settings.controller.heartbeat_interval;
      }
      const bool stop_known = drain_end != Instant::infinite_future();
      mailbox_.wait(std::min({next_report, machine_->next_step(now), pulse_.next(), drain_end}), {stop_known ? -1 : context_.stop_fd, exits_}, events);
      for (Event& event : events) take(std::move(event), inputs, next_report);
      take_exits(inputs);
    }
  }

  void take(Event event, std::vector<node::agent::Event>& inputs, Instant& next_report) {
    if (auto* input = std::get_if<node::agent::Event>(&event)) {
      // A change of what an executor can do is news for the controller and routers: it does not wait for the next heartbeat.
      if (const auto* ended = std::get_if<node::agent::FetchEnded>(input); ended != nullptr) --jobs_;
      const auto* up = std::get_if<node::agent::ExecutorSaid>(input);
      if (up != nullptr && std::holds_alternative<ExecutorReport>(up->message) && changes(std::get<ExecutorReport>(up->message))) {
        next_report = monotonic_now();
      }
      if (std::holds_alternative<node::agent::StreamEnded>(*input)) next_report = monotonic_now();
      inputs.push_back(std::move(*input));
    } else if (std::holds_alternative<LinkUp>(event)) {
      next_report = monotonic_now();
    } else if (std::holds_alternative<PagesReady>(event)) {
      preparing_ = false;
    } else {
      obey(std::get<Directive>(std::move(event)), inputs);
    }
  }

  bool changes(const ExecutorReport& report) {
    std::string state = str_cat(report.address, " ", report.incarnation);
    for (const RevisionState& revision : report.revisions) {
      str_append(&state, " ", revision.revision.hex(), static_cast<int>(revision.readiness));
    }
    std::string& known = reported_[report.name];
    if (known == state) return false;
    known = std::move(state);
    return true;
  }

  void obey(Directive directive, std::vector<node::agent::Event>& inputs) {
    if (auto* assignment = std::get_if<Assignment>(&directive)) {
      inputs.push_back(node::agent::AssignmentCame{std::move(*assignment)});
    } else if (auto* suspects = std::get_if<Suspects>(&directive)) {
      fetcher_->avoid({suspects->names.begin(), suspects->names.end()});
    } else if (std::holds_alternative<DrainMember>(directive)) {
      drained_by_controller_ = true;
    } else if (const auto* refused = std::get_if<Refused>(&directive)) {
      LOG_ERROR("the controller refuses this agent: {}", refused->status.message());
    }
  }

  void take_exits(std::vector<node::agent::Event>& inputs) {
    for (size_t device = 0; device < processes_.size(); ++device) {
      if (!processes_[device]) continue;
      const auto how = processes_[device]->poll_exit();
      if (!how) continue;
      const int64_t pid = processes_[device]->pid();
      const std::string& name = settings_.devices[device].name;
      if (machine_->draining() && *how == kOrderlyExit) {
        LOG_INFO("executor {} (pid {}) ended", name, pid);
      } else {
        LOG_WARNING("executor {} (pid {}) ended: {}; last log line: {}", name, pid, *how, last_log_line(log_path(name)));
      }
      processes_[device].reset();  // Its exit_fd leaves exits_ with it.
      inputs.push_back(node::agent::ExecutorExited{device, pid, *how});
    }
  }

  std::string log_path(const std::string& device) const { return str_cat(context_.state_directory, "/logs/", context_.name, "-", device, ".log"); }

  // ---- actions -----------------------------------------------------------------------------------------------------------
  using Inputs = std::vector<node::agent::Event>;
  void perform(node::agent::Tell& a, Inputs&) { service_->send(a.stream, a.message); }
  void perform(node::agent::CloseStream& a, Inputs&) {
    LOG_WARNING("executor stream {}: {}", a.stream, a.why);
    service_->close(a.stream, absl::FailedPreconditionError(a.why));
  }
  void perform(node::agent::SpawnExecutor& a, Inputs& inputs) {
    const std::string& device = settings_.devices.at(a.device).name;
    ProcessSpec spec{.arguments = {program_, "executor", "--state", context_.state_directory, "--name", str_cat(context_.name, "/", device),
                                   "--settings", context_.settings.file},
                     .log_file = log_path(device)};
    for (const std::string& set : context_.overrides) spec.arguments.insert(spec.arguments.end(), {"--set", set});
    absl::StatusOr<Process> process = Process::spawn(spec);
    if (!process.ok()) {
      LOG_ERROR("executor {}: {}", device, process.status().message());
      inputs.push_back(node::agent::ExecutorSpawned{.device = a.device, .status = process.status()});
      return;
    }
    LOG_INFO("started executor {} as pid {}", device, process->pid());
    epoll_event event{.events = EPOLLIN, .data = {.u64 = a.device}};
    CENOTE_CHECK(::epoll_ctl(exits_, EPOLL_CTL_ADD, process->exit_fd(), &event) == 0);
    inputs.push_back(node::agent::ExecutorSpawned{.device = a.device, .pid = process->pid()});
    processes_[a.device] = std::make_unique<Process>(*std::move(process));
  }
  void perform(node::agent::KillExecutor& a, Inputs&) {
    LOG_WARNING("executor {}: {}; it is killed", settings_.devices.at(a.device).name, a.why);
    if (processes_.at(a.device)) processes_[a.device]->signal(SIGKILL);
  }
  void perform(node::agent::Noticed& a, Inputs&) {
    if (a.silent) {
      LOG_WARNING("executor {}/{} is silent", context_.name, settings_.devices.at(a.device).name);
    } else {
      LOG_INFO("executor {}/{} speaks again", context_.name, settings_.devices.at(a.device).name);
    }
  }
  void perform(node::agent::SetServers& a, Inputs&) {
    grants_->set(a.servers);
    fetcher_->set_servers(std::move(a.servers));
  }
  void perform(node::agent::RetireWord& a, Inputs&) { cache_->retire(a.word); }
  void perform(node::agent::ResetWord& a, Inputs&) { cache_->reset(a.word); }
  void perform(node::agent::CheckManifest& a, Inputs&) {
    worker_->post([this, a = std::move(a)] {
      mailbox_.post_answer(node::agent::Event(node::agent::ManifestChecked{a.revision, check_manifest(cache_->data(), a)}));
    });
  }
  void perform(node::agent::StartFetch& a, Inputs&) {
    ++jobs_;
    fetcher_->add(std::move(a.job));
  }
  void perform(node::agent::PromoteFetch& a, Inputs&) { fetcher_->promote(a.job); }
  void perform(node::agent::CancelFetch& a, Inputs&) { fetcher_->cancel(a.job); }
  void perform(node::agent::WantBlock& a, Inputs&) { fetcher_->want(a.block, a.chunks); }

  // ---- reports -----------------------------------------------------------------------------------------------------------
  void report() {
    MemberReport report{.name = context_.name, .role = Role::kAgent, .incarnation = incarnation_, .address = server_->address()};
    fill_process_usage(report);
    report.draining = machine_->draining();
    if (!cache_->note().empty()) report.notes.push_back(cache_->note());
    if (settings_.link_gb_per_s > 0) report.notes.push_back(str_cat("fetching is paced to ", settings_.link_gb_per_s, " GB/s"));
    const node::AgentCounts counts = machine_->counts();
    report.cache_capacity_bytes = counts.cache_capacity_bytes;
    report.cache_used_bytes = counts.cache_used_bytes;
    report.cache_pinned_bytes = counts.cache_pinned_bytes;
    const load::FetcherStats stats = fetcher_->stats();
    report.fetched_bytes = stats.fetched_bytes;
    report.integrity_failures = stats.corrupt_chunks;
    report.suspected = stats.suspected + pulse_.suspected() + machine_->suspected();
    report.stalls = pulse_.stalls().stalls;
    report.stall_longest = pulse_.stalls().longest;
    report.executors = machine_->executors();
    for (const auto& [server, seen] : stats.seen) report.seen.push_back(seen);
    const std::lock_guard lock(doubtful_mutex_);
    report.doubtful.assign(doubtful_.begin(), doubtful_.end());
    if (report.doubtful.empty()) {
      link_->report(report);
    } else if (link_->report_increment(report).ok()) {  // Else the next report says it.
      doubtful_.clear();
    }
  }

  // Zeroing pages costs a tenth of a fetch: it is done ahead, while nothing is fetched, for the room that the next models will take.
  void prepare_pages() {
    const uint64_t end = std::min(cache_->data_bytes(), machine_->counts().cache_used_bytes + kReadyBytes);
    if (jobs_ > 0 || preparing_ || ready_to_ >= end) return;
    preparing_ = true;
    const uint64_t begin = ready_to_;
    ready_to_ = std::min(end, begin + kReadyStepBytes);
    worker_->post([this, begin, until = ready_to_] {
      cache_->populate(begin, until);
      mailbox_.post_answer(PagesReady{});
    });
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    link_.reset();
    mailbox_.close();
    for (auto& process : processes_) process.reset();  // Kills those that did not drain in time.
    if (service_ != nullptr) service_->close_all();
    if (server_ != nullptr) server_->stop(Duration::from_ms(200));
    worker_.reset();
    if (grants_ != nullptr) grants_->end();  // While the fetcher still takes answers.
    // Its thread may ask for a last grant, and is answered at once: the pointer must still say where.
    if (fetcher_ != nullptr) fetcher_->stop();
    fetcher_.reset();
    if (exits_ >= 0) ::close(std::exchange(exits_, -1));
    cache_.reset();
  }

  const RoleContext& context_;
  const AgentSettings& settings_;
  const Incarnation incarnation_ = new_incarnation();
  Mailbox<Event> mailbox_;
  std::string program_;
  std::unique_ptr<cache::HostCache> cache_;
  int exits_ = -1;  // An epoll of the executors' exit_fds.
  std::vector<std::unique_ptr<Process>> processes_;
  std::unique_ptr<Worker> worker_;
  std::mutex doubtful_mutex_;
  std::set<DoubtfulReplica> doubtful_;  // Not reported yet.
  std::unique_ptr<AgentGrants> grants_;
  std::unique_ptr<load::Fetcher> fetcher_;
  std::unique_ptr<node::Agent> machine_;
  std::unique_ptr<wire::AgentService> service_;
  std::unique_ptr<wire::Server> server_;
  ControllerNews controller_news_;
  std::unique_ptr<wire::ControllerLink> link_;
  ControllerPulse pulse_{context_.settings.silence_max};
  std::map<std::string, std::string> reported_;  // Executor -> what its last report said that others act on.
  int64_t jobs_ = 0;
  uint64_t ready_to_ = 0;
  bool preparing_ = false;
  bool drained_by_controller_ = false;
  bool stopped_ = false;
};

}  // namespace

absl::Status run_agent(const RoleContext& context) {
  const AgentSettings* settings = context.settings.agent(context.name);
  if (settings == nullptr) {
    return absl::InvalidArgumentError(
        str_cat(context.settings.file, " has no agent named ", context.name, "; its [[agent]] sections name those there are"));
  }
  return AgentRole(context, *settings).run();
}

}  // namespace cenote
