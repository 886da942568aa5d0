//! Compiles the .proto files without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["delivery.proto", "authentication.proto", "refusal.proto"];
    let descriptors = protox::compile(files.map(|file| format!("proto/{file}")), ["proto"])?;
    // Without gRPC the messages alone.
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .codec_path("crate::grpc::BoundedCodec")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
