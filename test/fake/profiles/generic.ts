// A processor with everything that Basalt knows how to use, 46 physical-address bits and a TSC of
// 2 GHz that leaf 15H describes. The VMX capabilities are those of a Haswell.

import { GENUINE_INTEL, type Profile } from "./profile.ts";

export const generic: Profile = {
  name: "generic",
  tscKhz: 2_000_000,
  cpuid: {
    "0": [0x16, GENUINE_INTEL.ebx, GENUINE_INTEL.ecx, GENUINE_INTEL.edx],
    "1": [0x0003_06c3, 0x0010_0800, 0x77fa_fbff, 0xbfeb_fbff],
    "2": [0x7603_6301, 0x00f0_b5ff, 0, 0x00c1_0000],
    "6": [0x77, 2, 9, 0],
    "7.0": [0, 0x0010_27ab, 0x0000_0004, 0x8c00_0000],
    a: [0x0730_0403, 0, 0, 0x603],
    "b.0": [1, 2, 0x100, 0],
    "b.1": [4, 8, 0x201, 0],
    "d.0": [7, 0x340, 0x340, 0],
    "d.1": [1, 0, 0, 0],
    "d.2": [0x100, 0x240, 0, 0],
    "15": [1, 80, 25_000_000, 0],
    "16": [2000, 2000, 100, 0],
    "80000000": [0x8000_0008, 0, 0, 0],
    "80000001": [0, 0, 0x21, 0x2c10_0800],
    "80000002": [0x6173_6142, 0x7420_746c, 0x2074_7365, 0x636f_7270],
    "80000003": [0x6f73_7365, 0x0000_0072, 0, 0],
    "80000004": [0, 0, 0, 0],
    "80000006": [0, 0, 0x0100_6040, 0],
    "80000007": [0, 0, 0, 0x100],
    "80000008": [0x302e, 0, 0, 0],
  },
  msrs: {
    "17": 0x0004_0000_0000_0000n, // IA32_PLATFORM_ID
    "8b": 0x0000_0028_0000_0000n, // IA32_BIOS_SIGN_ID
    ce: 0x0000_1400_0001_1400n, // MSR_PLATFORM_INFO: 20 * 100 MHz
    fe: 0x508n, // IA32_MTRRCAP: 8 variable ranges, fixed ranges, WC
    "10a": 0n, // IA32_ARCH_CAPABILITIES
    "179": 0n, // IA32_MCG_CAP
    "480": 0x00da_0400_0000_0012n,
    "481": 0x0000_007f_0000_0016n,
    "482": 0xfff9_fffe_0401_e172n,
    "483": 0x007f_ffff_0003_6dffn,
    "484": 0x0000_ffff_0000_11ffn,
    "485": 0x3004_81e5n,
    "486": 0x8000_0021n,
    "487": 0xffff_ffffn,
    "488": 0x2000n,
    "489": 0x0037_6fffn,
    "48a": 0x2an,
    "48b": 0x0000_7cff_0000_0000n,
    "48c": 0x0000_0f01_0633_4141n,
    "48d": 0x0000_007f_0000_0016n,
    "48e": 0xfff9_fffe_0400_6172n,
    "48f": 0x007f_ffff_0003_6dfbn,
    "490": 0x0000_ffff_0000_11fbn,
    "491": 1n,
  },
};
