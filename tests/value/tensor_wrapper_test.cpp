// wrapper_of() and is_slots_state(): by form alone.
#include "value/tensor_wrapper.hpp"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace flatbed {
namespace {

Wrapper wrapper(std::string_view module, std::string_view name, std::size_t arguments) {
  ValueTree tree;
  const std::vector<NodeId> nones(arguments, tree.add_none());
  const NodeId object = tree.add_object(tree.add_global(module, name), tree.add_tuple(nones));
  return wrapper_of(tree.value(object));
}

TEST(TensorWrapper, IsAKnownCallOfTheRightNumberOfArguments) {
  EXPECT_EQ(wrapper("torch._tensor", "_rebuild_from_type_v2", 4), Wrapper::subclass);
  EXPECT_EQ(wrapper("torch.tensor", "_rebuild_from_type", 4), Wrapper::subclass);
  EXPECT_EQ(wrapper("torch._tensor", "_rebuild_from_type_v2", 3), Wrapper::none);
  EXPECT_EQ(wrapper("torch._utils", "_rebuild_parameter", 3), Wrapper::parameter);
  EXPECT_EQ(wrapper("torch._utils", "_rebuild_parameter_with_state", 4), Wrapper::parameter);
  EXPECT_EQ(wrapper("torch._utils", "_rebuild_parameter", 4), Wrapper::none);
  EXPECT_EQ(wrapper("other", "_rebuild_parameter", 3), Wrapper::none);
}

TEST(TensorWrapper, OfSlotsIsATupleOfTwoDictsOrNone) {
  ValueTree tree;
  const auto slots = [&](const std::vector<NodeId>& items) {
    return is_slots_state(tree.value(tree.add_tuple(items)));
  };
  EXPECT_TRUE(slots({tree.add_none(), tree.add_dict()}));
  EXPECT_TRUE(slots({tree.add_dict(), tree.add_dict()}));
  EXPECT_FALSE(slots({tree.add_none(), tree.add_list()}));
  EXPECT_FALSE(slots({tree.add_none()}));
  EXPECT_FALSE(is_slots_state(tree.value(tree.add_list())));
}

}  // namespace
}  // namespace flatbed
