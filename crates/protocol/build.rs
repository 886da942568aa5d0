//! Compiles the .proto files without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["delivery.proto", "authentication.proto", "refusal.proto"];
    let descriptors = protox::compile(files.map(|file| format!("proto/{file}")), ["proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
