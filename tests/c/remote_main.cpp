// The server of remote.c: serves models, and answers by what the paths below ask for.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"

extern "C" {
const void* small_model(std::uint64_t* nbytes);  // check.c
int test_remote(const char* url, const char* output);
}

namespace {

using flatbed::test::ServerAnswer;
using flatbed::test::ServerRequest;
using flatbed::test::TestServer;

std::string header(const ServerRequest& request, const std::string& name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? std::string() : found->second;
}

void refuse_unless(bool accepted, int status, ServerAnswer& answer) {
  if (accepted) return;
  answer = ServerAnswer{};
  answer.status = status;
}

void serve_models(TestServer& server) {
  std::uint64_t nbytes = 0;
  const auto* const bytes = static_cast<const char*>(small_model(&nbytes));
  const std::string model(bytes, nbytes);
  for (const char* const path :
       {"/model.safetensors", "/token.safetensors", "/header.safetensors", "/agent.safetensors",
        "/flaky.safetensors", "/bucket/model.safetensors",
        "/owner/name/resolve/main/model.safetensors", "http://models.invalid/model.safetensors"}) {
    server.serve(path, model);
  }
  server.serve("/large.safetensors",
               flatbed::test::one_tensor("w", flatbed::test::pattern(3 << 20)));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  TestServer server;
  serve_models(server);
  const auto failures = std::make_shared<std::atomic<int>>(1);
  server.change = [failures](const ServerRequest& request, ServerAnswer& answer) {
    const std::string authorization = header(request, "authorization");
    if (request.path == "/token.safetensors")
      refuse_unless(authorization == "Bearer good", 401, answer);
    if (request.path == "/header.safetensors")
      refuse_unless(header(request, "x-key") == "good", 403, answer);
    if (request.path == "/agent.safetensors")
      refuse_unless(header(request, "user-agent") == "engine/1", 400, answer);
    if (request.path == "/bucket/model.safetensors") {
      refuse_unless(authorization.find("Credential=AKID/") != authorization.npos &&
                        authorization.find("/eu-west-1/s3/") != authorization.npos &&
                        header(request, "x-amz-security-token") == "session",
                    403, answer);
    }
    if (request.path == "/flaky.safetensors") refuse_unless((*failures)-- <= 0, 503, answer);
    if (request.path == "/stalled.safetensors") answer.delay = std::chrono::minutes(1);
    if (request.path == "/down.safetensors") refuse_unless(false, 503, answer);
  };
  return test_remote(server.url("").c_str(), argv[1]);
}
