# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts for bulkhead-oci share; sourced after lib.sh.
#
#	oci ARGUMENT...         bulkhead-oci with a state root of this script's
#	oci_bundle NAME         $WORK/NAME: a bundle with a busybox root file system and oci_spec's configuration
#	oci_config NAME FILTER  changes its config.json by a jq filter

has jq || skip_all "jq is not installed"
OCI_ROOT=$TEST_STATE/oci
export OCI_ROOT

oci() {
	"$BUILD/bulkhead-oci" --root "$OCI_ROOT" "$@"
}

oci_bundle() {
	mkdir -p "$WORK/$1/rootfs"
	tar -C "$WORK/$1/rootfs" -xf "$(busybox_tar)"
	oci spec --bundle "$WORK/$1"
	# A cgroup with a name that the leak check knows.
	oci_config "$1" '.process.terminal = false | .linux.cgroupsPath = "/bulkhead-oci-'"$$-$1"'"'
}

oci_config() {
	jq "$2" "$WORK/$1/config.json" >"$WORK/.config" && mv "$WORK/.config" "$WORK/$1/config.json"
}
