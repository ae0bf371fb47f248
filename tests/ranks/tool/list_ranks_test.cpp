// flatbed convert --list by several ranks, which are threads here.
#include "list_ranks.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "list_job.hpp"
#include "list_message.hpp"
#include "support/expect_error.hpp"
#include "support/fake_collective.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::tool {
namespace {

using test::FakeRanks;
using namespace std::chrono_literals;

constexpr int kJobs = 4;
constexpr int kManyJobs = 50;  // rank 0 still converts them when it hears of rank 1

// A list of jobs in a folder. The lines are too long to be sent before they are received.
ConvertOptions jobs_in(const test::TempDir& dir, int jobs = kJobs) {
  std::vector<test::ModelTensor> tensors{{"w", Dtype::u8, {100}}};
  test::fill(tensors);
  std::ofstream list(dir / "jobs.jsonl");
  for (int i = 0; i < jobs; ++i) {
    const std::string in = (dir / std::to_string(i)).native() + ".safetensors";
    const std::string out = (dir / std::to_string(i)).native() + ".pth";
    static_cast<void>(test::write_model(in, tensors));
    list << R"({"in": ")" << in << R"(", "out": ")" << out << "\"" << std::string(4096, ' ')
         << "}\n";
  }
  ConvertOptions options;
  options.list = dir / "jobs.jsonl";
  options.form = Form::json;
  return options;
}

// The next message of a rank, which it does not receive yet.
Incoming announced(Collective& ranks) {
  while (true) {
    const std::optional<Incoming> message = ranks.next().value();
    if (message) return *message;
    std::this_thread::yield();
  }
}

std::vector<std::byte> receive(Collective& ranks, const Incoming& message) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(message.nbytes));
  const Collective::Ticket ticket = ranks.receive(message, bytes).value();
  while (!ranks.done(ticket).value()) std::this_thread::yield();
  return bytes;
}

TEST(ListOfRanks, GoesOnWhileARankDoesNotTakeItsJob) {
  const test::TempDir dir;
  const ConvertOptions options = jobs_in(dir);
  FakeRanks ranks(3);
  std::string text;
  Output output(text);
  std::optional<ExitCode> code;
  std::thread dealer([&] { code = convert_list_together(options, ranks[0], output); });
  EXPECT_OK(send_message(ranks[1], {0, kReady}, {}, 10min));
  const Incoming job = announced(ranks[1]);
  // Rank 2 returns once rank 0 has told it that there is no more to do.
  std::string nothing;
  Output none(nothing);
  EXPECT_EQ(convert_list_together(options, ranks[2], none), ExitCode::ok);
  const JobLine line = read_job(receive(ranks[1], job)).value();
  const JobListCheck check = {};
  const std::optional<ListResult> result = ListJobs(options, check).run(line, {});
  ASSERT_TRUE(result);
  EXPECT_OK(send_message(ranks[1], {0, kReady}, result_message(*result), 10min));
  EXPECT_EQ(next_message(ranks[1], 10min).value().tag, kEnd);
  dealer.join();
  EXPECT_EQ(code, ExitCode::ok);
  EXPECT_OK(output.flush());
  EXPECT_NE(text.find("\"converted\":4"), std::string::npos) << text;
}

TEST(ListOfRanks, SaysThatARankDidNotTakeTheLineThatCouldNotBeSent) {
  const test::TempDir dir;
  const ConvertOptions options = jobs_in(dir, kManyJobs);
  FakeRanks ranks(2);
  ranks.faults(0).send = 1;  // the first job
  EXPECT_OK(send_message(ranks[1], {0, kReady}, {}, 10min));
  std::string text;
  Output output(text);
  testing::internal::CaptureStderr();
  const ExitCode code = convert_list_together(options, ranks[0], output);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(code, ExitCode::ok);
  EXPECT_NE(said.find("lost: rank 1 did not take line "), std::string::npos) << said;
  EXPECT_EQ(said.find("was converting"), std::string::npos) << said;
}

// Its first answer is no result of a job.
TEST(ListOfRanks, NamesTheLineThatALostRankHasTaken) {
  const test::TempDir dir;
  const ConvertOptions options = jobs_in(dir, kManyJobs);
  FakeRanks ranks(2);
  EXPECT_OK(send_message(ranks[1], {0, kReady}, {}, 10min));
  std::string text;
  Output output(text);
  testing::internal::CaptureStderr();
  std::optional<ExitCode> code;
  std::thread dealer([&] { code = convert_list_together(options, ranks[0], output); });
  receive(ranks[1], announced(ranks[1]));
  const std::vector<std::byte> nothing(1);
  EXPECT_OK(send_message(ranks[1], {0, kReady}, nothing, 10min));
  dealer.join();
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(code, ExitCode::ok);
  EXPECT_NE(said.find("lost: rank 1 was converting line "), std::string::npos) << said;
}

}  // namespace
}  // namespace flatbed::tool
