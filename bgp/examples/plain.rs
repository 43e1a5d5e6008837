//! The speaker in another program: announce one address to one router until interrupted.
//!
//! `cargo run -p bgp --example plain -- 10.0.0.1 65001 192.0.2.1/32`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::driver::{Config, spawn};
use bgp::rib::{Origination, RouteSet};
use bgp::speaker::{PeerAddress, PeerConfig, RemoteAs, Shutdown, SpeakerConfig};
use bgp::types::Prefix;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or("usage: plain ROUTER AS PREFIX");
    let (router, asn, prefix): (IpAddr, u32, Prefix) =
        (argument()?.parse()?, argument()?.parse()?, argument()?.parse()?);

    let mut config = Config::new(SpeakerConfig::new(64999, Ipv4Addr::new(192, 0, 2, 1)));
    config.listen = vec![]; // dial only: needs no privilege
    config.peers = vec![PeerConfig::new(PeerAddress::Numbered(router), RemoteAs::Number(asn))];
    let (speaker, thread) = spawn(config)?;
    speaker.set_routes(Arc::new(RouteSet::from_iter([(prefix, Arc::new(Origination::default()))])));

    let mut events = speaker.events();
    loop {
        tokio::select! {
            event = events.recv() => println!("{}", event?),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    speaker.shutdown(Shutdown::Stop("the example is over".to_owned())).await?;
    thread.join().map_err(|_| "the speaker's thread panicked")?;
    Ok(())
}
