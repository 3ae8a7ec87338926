package cluster

import "syscall"

// dieWithParent makes the kernel end a program when the test binary dies without having
// cleaned up, as it does when it runs out of time.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
