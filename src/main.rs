//! The `ovn-bgpd` command.

fn main() -> std::process::ExitCode {
    // Stacks and the allocator's arenas are large pieces. With huge pages each piece is resident as a whole as soon as one octet of it is
    // used, which costs an idle daemon more than everything else together. Refused where the kernel has none: as good.
    let _ = nix::sys::prctl::set_thp_disable(true);
    ovn_bgpd::cli::main()
}
