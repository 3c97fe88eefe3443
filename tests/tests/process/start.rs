//! What `up` needs before it runs: its port, its data directory. And how it is without any workload.

use std::fs;
use std::net::TcpListener;

use tidegate_tests::servers::{Tidegate, http};

use super::written::{folder, run, write};

#[tokio::test]
async fn without_a_file_it_watches_the_machine_and_says_how_to_add_a_workload() {
    let mut server = Tidegate::up(&[]).await;
    let health = http().get(format!("{}/healthz", server.url())).send().await.expect("it answers");
    assert!(health.status().is_success());
    let workloads = server.get("/api/v1/workloads").await.expect("it answers");
    assert_eq!(workloads["workloads"].as_array().map(Vec::len), Some(0));
    let about = server.get("/api/v1/about").await.expect("it answers");
    assert!(about["notes"][0].as_str().is_some_and(|note| note.contains("tidegate.yaml")), "{about:#}");
    let lines: Vec<_> = server.program().output().lines().map(str::to_owned).collect();
    assert_eq!(lines, [format!("listening on {}", server.url())], "one line on standard output, no more");
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_is_left_behind() {
    let dir = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = run(dir.path(), &["up", "--demo", "--data", "data", "--listen", &address]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{}", ended.errors);
    assert!(ended.errors.contains(&address) && ended.errors.contains("in use"), "{}", ended.errors);
    // Not even the directory is taken.
    let mut server = Tidegate::up_in(dir, &[]).await;
    assert_eq!(server.interrupt().code(), Some(0));
}

#[tokio::test]
async fn a_second_one_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let mut server = Tidegate::up(&[]).await;
    let data = server.data();
    let data = data.to_str().expect("the path is UTF-8");
    let second = run(server.dir(), &["up", "--data", data, "--listen", "127.0.0.1:0"]);
    assert_eq!((second.code, second.output.as_str()), (Some(1), ""), "{}", second.errors);
    assert!(second.errors.contains(data) && second.errors.contains("another Tidegate"), "{}", second.errors);
    assert!(server.get("/api/v1/workloads").await.is_some(), "the first one answers no more");
    // A lock ends with its process, however that ends.
    server.kill();
    server.start_again(&[]).await;
    assert_eq!(server.interrupt().code(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let dir = folder();
    write(dir.path(), "file", "no directory");
    let ended = run(dir.path(), &["up", "--data", "file/data", "--listen", "127.0.0.1:0"]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{}", ended.errors);
    assert!(ended.errors.contains("file/data"), "{}", ended.errors);
}

#[tokio::test]
async fn it_ends_by_itself_after_the_time_given() {
    let mut server = Tidegate::up(&["--for", "1s"]).await;
    let ended = server.program().wait(std::time::Duration::from_secs(20)).expect("it ends by itself");
    assert_eq!(ended.code(), Some(0), "{}", server.program().errors());
    assert!(fs::exists(server.data().join("history")).expect("it can be looked for"));
}
