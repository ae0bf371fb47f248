// Where the certificates are that servers are verified with, in a made-up system.
#include "remote/certificates.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::remote {
namespace {

using test::TempDir;
using test::write_file;

// A root folder with an empty file at each path.
class Root {
 public:
  std::string add(const std::string& path) {
    std::filesystem::create_directories((dir_ / path).parent_path());
    write_file(dir_ / path, path);
    return dir_ / path;
  }
  [[nodiscard]] std::string path(const std::string& path) const { return dir_ / path; }

 private:
  TempDir dir_;
};

TEST(Certificates, AreFoundWhereEachDistributionHasThem) {
  for (const char* const usual :
       {"etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt",
        "etc/ssl/ca-bundle.pem", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "etc/ssl/cert.pem"}) {
    Root root;
    const CaPlaces found{root.add(usual), ""};
    EXPECT_EQ(find_ca_places({}, root.path("")), found) << usual;
    EXPECT_EQ(find_ca_places({"/nothing/here.pem", "/nothing/here"}, root.path("")), found);
  }
}

TEST(Certificates, ThatLibcurlWasBuiltToUseComeFirst) {
  Root root;
  root.add("etc/ssl/cert.pem");
  const std::string file = root.add("own/certificates.pem");
  EXPECT_EQ(find_ca_places({file, ""}, root.path("")), (CaPlaces{file, ""}));
  EXPECT_EQ(find_ca_places({"/nothing/here.pem", root.path("own")}, root.path("")),
            (CaPlaces{"", root.path("own")}));
}

TEST(Certificates, AreNotInAnEmptyFolder) {
  Root root;
  const CaPlaces found{root.add("etc/ssl/cert.pem"), ""};
  std::filesystem::create_directory(root.path("own"));
  EXPECT_EQ(find_ca_places({"", root.path("own")}, root.path("")), found);
}

TEST(Certificates, MayBeMissing) {
  const Root root;
  EXPECT_EQ(find_ca_places({}, root.path("")), CaPlaces{});
  const auto found = find_certificates({}, {});
  ASSERT_OK(found);
  EXPECT_TRUE(found->none());
}

TEST(Certificates, OfACallerAreAddedToThoseOfTheSystem) {
  Root root;
  const std::string system = root.add("system.pem");
  RemoteOptions options;
  options.ca_file = root.add("own.pem");

  const auto besides_a_folder = find_certificates(options, {"", root.path("")});
  ASSERT_OK(besides_a_folder);
  EXPECT_EQ(besides_a_folder->places, (CaPlaces{options.ca_file, root.path("")}));
  EXPECT_FALSE(besides_a_folder->pem);

  // The folder may hold other certificates than the file.
  const auto besides_both = find_certificates(options, {system, root.path("")});
  ASSERT_OK(besides_both);
  EXPECT_EQ(besides_both->places.folder, root.path(""));
  ASSERT_TRUE(besides_both->pem);
  EXPECT_EQ(*besides_both->pem, "system.pem\nown.pem\n");

  const auto besides_a_file = find_certificates(options, {system, ""});
  ASSERT_OK(besides_a_file);
  ASSERT_TRUE(besides_a_file->pem);
  EXPECT_EQ(*besides_a_file->pem, "system.pem\nown.pem\n");

  const auto alone = find_certificates(options, {});
  ASSERT_OK(alone);
  EXPECT_EQ(alone->places, (CaPlaces{options.ca_file, ""}));
}

TEST(Certificates, ThatStandForTheSystemsReplaceThem) {
  Root root;
  RemoteOptions options;
  options.system_ca_file = root.add("other.pem");
  const auto file = find_certificates(options, {root.add("system.pem"), root.path("")});
  ASSERT_OK(file);
  EXPECT_EQ(file->places, (CaPlaces{options.system_ca_file, ""}));

  options.system_ca_dir = "/one:/two";
  options.ca_file = root.add("own.pem");
  const auto both = find_certificates(options, {});
  ASSERT_OK(both);
  EXPECT_EQ(both->places.folder, "/one:/two");
  ASSERT_TRUE(both->pem);
  EXPECT_EQ(*both->pem, "other.pem\nown.pem\n");
}

TEST(Certificates, AreRefusedIfTheyAreNoFile) {
  const TempDir dir;
  RemoteOptions options;
  options.ca_file = dir / "none.pem";
  EXPECT_ERROR(find_certificates(options, {}), file_not_found);
  options.ca_file.clear();
  options.system_ca_file = dir.path();
  EXPECT_ERROR(find_certificates(options, {}), file_not_found);
}

TEST(Certificates, AreRefusedIfTheyAreTooLong) {
  const TempDir dir;
  RemoteOptions options;
  options.ca_file = dir / "own.pem";
  write_file(options.ca_file, "own");
  write_file(dir / "large.pem", "");
  std::filesystem::resize_file(dir / "large.pem", 17 << 20);
  EXPECT_ERROR(find_certificates(options, {dir / "large.pem", ""}), invalid_argument);
  std::filesystem::resize_file(dir / "large.pem", 15 << 20);
  EXPECT_OK(find_certificates(options, {dir / "large.pem", ""}));
}

}  // namespace
}  // namespace flatbed::remote
