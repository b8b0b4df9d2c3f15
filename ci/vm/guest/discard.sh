# Discard and write-zeroes: the range reads as zeros, its neighbours are as they were.

check "discard on 512" discard_range "$small"
check "discard on 4096" discard_range "$large"
check "write zeroes on 512" discard_range "$small" -z
check "write zeroes on 4096" discard_range "$large" -z
