//go:build !linux

package deploy

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
