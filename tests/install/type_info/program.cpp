// The program: catches what the plugin and libflatbed throw, lets the plugin catch what it throws
// itself, and asks whether the plugin's objects are Devices. Exit status 0: all as expected.
#include <exception>
#include <iostream>

#include "flatbed/byte_source.hpp"
#include "flatbed/device.hpp"
#include "plugin.hpp"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::cerr << "does not hold: " << what << '\n';
    ++failures;
  }
}

bool catch_here(void (*function)()) {
  try {
    function();
  } catch (const flatbed::Exception& exception) {
    return exception.code() == flatbed::ErrorCode::io_error;
  } catch (...) {
    return false;
  }
  return false;
}

bool is_flatbeds(void (*function)()) {
  try {
    function();
  } catch (const std::exception& exception) {
    return dynamic_cast<const flatbed::Exception*>(&exception) != nullptr;
  }
  return false;
}

void fail_here() {
  flatbed::Result<void>({flatbed::ErrorCode::io_error, "from the program"}).value();
}
void throw_here() { throw flatbed::Exception({flatbed::ErrorCode::io_error, "made here"}); }

}  // namespace

int main() {
  expect(catch_here(&fail_here), "the program catches what libflatbed throws");
  expect(catch_here(&fail_in_flatbed), "the program catches what comes through the plugin");
  expect(catches(&throw_here), "the plugin catches what the program throws");
  expect(is_flatbeds(&fail_in_flatbed), "a std::exception from the plugin is a flatbed::Exception");
  expect(dynamic_cast<flatbed::Device*>(&device_plugin()) != nullptr,
         "the plugin's object is a Device");
  expect(dynamic_cast<flatbed::ByteSource*>(&source_plugin()) != nullptr,
         "the plugin's object is a ByteSource");
  expect(dynamic_cast<flatbed::Device*>(&source_plugin()) == nullptr,
         "a ByteSource is not a Device");
  expect(dynamic_cast<flatbed::Device*>(&other_plugin()) == nullptr,
         "the plugin's other object is not a Device");
  return failures;
}
