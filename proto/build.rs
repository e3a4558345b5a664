//! Generates the message types from the definitions beside it, without calling `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "raftpb/raft.proto",
            "etcd/request.proto",
            "etcd/storage.proto",
            "etcd/auth.proto",
            "capture.proto",
            "checkpoint.proto",
            "ledger.proto",
        ],
        ["proto"],
    )?;
    prost_build::Config::new()
        .bytes(["."])
        // These hold values and secrets; `src/pb.rs` says how they may be shown.
        .skip_debug([
            ".etcdpb.PutRequest",
            ".etcdpb.Compare",
            ".etcdpb.AuthenticateRequest",
            ".etcdpb.AuthenticateResponse",
            ".etcdpb.AuthUserAddRequest",
            ".etcdpb.AuthUserChangePasswordRequest",
            ".raftpb.Entry",
            ".raftpb.Snapshot",
            ".storagepb.Record",
            ".storagepb.SnapFile",
        ])
        .compile_fds(files)?;
    Ok(())
}
