# fio with verification: many commands in flight, small and large, random and sequential.

check "fio: random 4 KiB writes, 16 in flight, read back, on 512" \
    fio_verify "$small" --rw=randwrite --bs=4k --iodepth=16 --size=12M
check "fio: odd sizes of 512-byte blocks, read back, on 512" \
    fio_verify "$small" --rw=randwrite --bsrange=512-16k --blockalign=512 --iodepth=8 --offset=32M --size=4M
check "fio: random mixed reads and writes, 16 in flight, on 4096" \
    fio_verify "$large" --rw=randrw --bs=4k --iodepth=16 --size=12M
# Larger than any burst: several R2Ts and several Data-In sequences a command.
check "fio: sequential 1 MiB writes, read back, on 4096" \
    fio_verify "$large" --rw=write --bs=1M --iodepth=4 --size=32M
