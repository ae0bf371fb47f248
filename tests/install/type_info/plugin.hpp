// What the plugin offers to the program: an object that is a Device too, and an exception.
#pragma once

class __attribute__((visibility("default"))) Plugin {
 public:
  virtual ~Plugin();
};

// A Plugin that is also a flatbed::Device.
__attribute__((visibility("default"))) Plugin& device_plugin();
// A Plugin that is also a flatbed::ByteSource.
__attribute__((visibility("default"))) Plugin& source_plugin();
// A Plugin that is neither.
__attribute__((visibility("default"))) Plugin& other_plugin();
// Has libflatbed throw a flatbed::Exception.
__attribute__((visibility("default"))) void fail_in_flatbed();
// Catches what `function` throws; true: it was a flatbed::Exception.
__attribute__((visibility("default"))) bool catches(void (*function)());
