// Package configs_test lets systemd's own tools judge the files in this directory.
package configs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// maxExposure is the largest exposure level of the unit that we accept; the scale ends at 10, which is unprotected.
const maxExposure = 1.5

// tool runs one of systemd's programs.
func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing; on Debian: apt-get install systemd", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// unit writes the unit to a directory of its own, with a program that exists here in place of the agent: systemd-analyze
// looks for it.
func unit(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("mayflyd.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "mayflyd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mayflyd.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("/usr/bin/mayflyd"), []byte(program)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheUnitIsValid(t *testing.T) {
	if out := tool(t, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit(t)); len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify complains:\n%s", out)
	}
}

func TestTheUnitIsWalledIn(t *testing.T) {
	out := tool(t, "systemd-analyze", "security", "--offline=true", "--no-pager", unit(t))
	level := regexp.MustCompile(`Overall exposure level for [^:]+: ([0-9.]+)`).FindSubmatch(out)
	if level == nil {
		t.Fatalf("no exposure level in:\n%s", out)
	}
	exposure, err := strconv.ParseFloat(string(level[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("exposure level %.1f", exposure)
	if exposure > maxExposure {
		t.Errorf("exposure level %.1f, want at most %.1f:\n%s", exposure, maxExposure, out)
	}
}

// Compiled functions are made executable after they were written, and the admin socket asks the kernel who connects; the unit
// must not forbid either.
func TestTheUnitLetsTheAgentWork(t *testing.T) {
	text, err := os.ReadFile("mayflyd.service")
	if err != nil {
		t.Fatal(err)
	}
	if bad := regexp.MustCompile(`(?m)^(MemoryDenyWriteExecute|LimitAS|PrivateUsers)=.*`).Find(text); bad != nil {
		t.Errorf("the unit has %s", bad)
	}
}

// The user comes into being as the file says, in an empty root.
func TestTheUserIsMade(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("mayfly.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "systemd-sysusers", "--root="+root, path)
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^mayfly:x:\d+:\d+:Mayfly agent:/var/lib/mayfly:/usr/sbin/nologin$`).Match(passwd) {
		t.Errorf("no user mayfly in:\n%s", passwd)
	}
}

// The prefix keeps it from making anything; lines that are wrong are complained about all the same.
func TestTheDirectoriesAreValid(t *testing.T) {
	path, err := filepath.Abs("mayfly.tmpfiles")
	if err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "systemd-tmpfiles", "--create", "--prefix=/nonexistent", path); len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-tmpfiles complains:\n%s", out)
	}
}
