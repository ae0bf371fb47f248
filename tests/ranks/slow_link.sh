#!/bin/sh
# Loads together over a link that is slow and loses packets: two network namespaces with two ranks
# each, and netem between them. Needs root, iproute2 and Open MPI; exit status 77 where they are
# missing. Run by hand.
# Usage: slow_link.sh PROGRAM [DELAY [LOSS]]     PROGRAM of mpi_ranks.cpp; 5ms and 1% if not given;
#                                                "none" as DELAY: over the link as it is
set -eu

program=$1
delay=${2:-5ms}
loss=${3:-1%}
how="delay $delay, loss $loss"
for tool in ip tc mpirun; do
  command -v $tool >/dev/null || { echo "slow_link: there is no $tool"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "slow_link: needs root"; exit 77; }

folder=$(mktemp -d)
a=flatbed-a-$$
b=flatbed-b-$$
clean() {
  ip netns del "$a" 2>/dev/null || :
  ip netns del "$b" 2>/dev/null || :
  rm -rf "$folder"
}
trap clean EXIT
trap 'exit 130' HUP INT TERM  # dash runs the trap of EXIT only when it exits itself
ip netns add "$a" || { echo "slow_link: network namespaces cannot be made here"; exit 77; }
ip netns add "$b"
ip -n "$a" link add flatbed0 type veth peer name flatbed0 netns "$b"
ip -n "$a" addr add 10.99.0.1/24 dev flatbed0
ip -n "$b" addr add 10.99.0.2/24 dev flatbed0
for namespace in "$a" "$b"; do
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set flatbed0 up
  # A kernel without netem may still have a narrow queue, which drops what does not fit.
  [ "$delay" = none ] ||
    ip netns exec "$namespace" tc qdisc add dev flatbed0 root netem delay "$delay" loss "$loss" ||
    { how="a queue of 200 Mbit/s that drops, in place of netem"
      ip netns exec "$namespace" tc qdisc add dev flatbed0 root tbf rate 200mbit burst 32kb \
        latency 5ms; } || { echo "slow_link: the link cannot be made slow here"; exit 77; }
done

# What mpirun calls in place of ssh: HOST COMMAND...
cat >"$folder/agent" <<END
#!/bin/sh
shift
exec ip netns exec $b sh -c "\$*"
END
chmod +x "$folder/agent"

over_link() {
  ip netns exec "$a" mpirun --allow-run-as-root --oversubscribe --host 10.99.0.1:2,10.99.0.2:2 \
    -np 4 --mca plm_rsh_agent "$folder/agent" --mca btl tcp,self \
    --mca btl_tcp_if_include flatbed0 --mca oob_tcp_if_include flatbed0 "$program" "$@"
}
mpirun --allow-run-as-root -np 1 "$program" make "$folder/model.safetensors" 16
for cut in rows columns whole; do
  echo "$cut, $how"
  over_link load "$folder/model.safetensors" $cut
done
[ "$delay" = none ] || ip netns exec "$a" tc -s qdisc show dev flatbed0
