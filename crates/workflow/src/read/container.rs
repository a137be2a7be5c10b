//! Containers, their images and their volumes.

use super::{Fields, Reader, env_names};
use crate::duration;
use crate::expression::Template;
use crate::language::{CONTAINER, CREDENTIALS, VOLUME};
use crate::model::{Container, Credentials, Image};
use crate::names::Names;
use crate::schema::Object;
use crate::volume;
use crate::volume::{Volume, VolumeSource};
use oci_reference::Reference;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;
use yaml_tree::document::Node;

impl Reader<'_> {
    pub(super) fn container_or_image(&mut self, node: &Rc<Node>, names: &Names<'_>) -> Option<Container> {
        if node.scalar().is_some() {
            return Some(Container::named(self.image(node, names)?));
        }
        self.container(node, &CONTAINER, names)
    }

    /// A container in long form with the keys of `object`.
    pub(super) fn container(&mut self, node: &Node, object: &Object, names: &Names<'_>) -> Option<Container> {
        let fields = Fields::of(node, object);
        let inner = names.with_env(env_names(fields.get("env")));
        let image = fields.get("image").and_then(|node| self.image(node, &inner));
        let mut container = Container::named(image.unwrap_or_else(Image::unknown));
        container.env = self.env(fields.get("env"), names);
        container.entrypoint = fields.get("entrypoint").and_then(|node| self.words(node, &inner));
        container.command = fields.get("command").and_then(|node| self.words(node, &inner));
        container.user = fields.get("user").and_then(|node| self.plain_scalar(node));
        container.directory = fields.get("workdir").and_then(|node| self.absolute(node)).map(into_text);
        container.tty = fields.bool("tty").unwrap_or(true);
        container.privileged = fields.bool("privileged").unwrap_or(true);
        container.handover = fields.bool("handover");
        container.read_only = fields.is_true("read-only");
        container.pid_host = fields.get("pid").is_some();
        container.memory = fields.text("memory").and_then(|text| duration::bytes(&text));
        container.pids = fields.text("pids").and_then(|text| text.parse().ok());
        container.credentials = fields.get("credentials").and_then(|node| self.credentials(node, names));
        let volumes = fields.get("volumes").map(|node| node.items()).unwrap_or_default();
        let mut places = Vec::new();
        for node in volumes {
            if let Some(volume) = self.volume(node, &inner) {
                places.push(node.span.clone());
                container.volumes.push(volume);
            }
        }
        if let Some(options) = fields.get("options") {
            let has_terminal = object.keys.iter().any(|key| key.name == "tty");
            self.options(options, &mut container, has_terminal);
            places.resize(container.volumes.len(), options.span.clone());
        }
        self.check_targets(&container.volumes, &places);
        Some(container)
    }

    /// The name of an image. A name without expressions is parsed now.
    pub(super) fn image(&mut self, node: &Node, names: &Names<'_>) -> Option<Image> {
        let name = self.template(node, names)?;
        let reference = match name.as_literal().map(str::parse) {
            None => None,
            Some(Ok(reference)) => Some(reference),
            Some(Err(error)) => {
                let hint = image_hint(name.source());
                self.findings.error("image", &node.span, format!("{error}"), hint);
                return None;
            }
        };
        Some(Image { name, reference, span: node.span.clone() })
    }

    fn credentials(&mut self, node: &Node, names: &Names<'_>) -> Option<Credentials> {
        let fields = Fields::of(node, &CREDENTIALS);
        let username = fields.get("username").and_then(|node| self.template(node, names));
        let password = fields.get("password").and_then(|node| self.template(node, names));
        Some(Credentials { username: username?, password: password? })
    }

    fn volume(&mut self, node: &Node, names: &Names<'_>) -> Option<Volume> {
        if node.scalar().is_none() {
            return self.long_volume(node, names);
        }
        let text = self.plain(node)?;
        match Volume::parse(&text) {
            Ok(volume) => Some(volume),
            Err(why) => {
                self.volume_error(&node.span, &format!("`{text}` is not a valid volume: {why}"));
                None
            }
        }
    }

    fn volume_error(&mut self, span: &Range<usize>, message: &str) {
        let hint = "write `NAME:/PATH`, `/HOST:/PATH` or `/PATH`, with `:ro` for read-only";
        self.findings.error("volume", span, message, hint);
    }

    fn long_volume(&mut self, node: &Node, names: &Names<'_>) -> Option<Volume> {
        let fields = Fields::of(node, &VOLUME);
        let kind = fields.text("type").unwrap_or_else(|| "volume".into());
        let target_node = fields.get("target")?;
        let target = match volume::target_path(&self.plain(target_node)?) {
            Ok(target) => target,
            Err(why) => {
                let message = format!("invalid volume: {why}");
                let hint = "write the absolute path in the container, such as `/data`";
                self.findings.error("volume", &target_node.span, message, hint);
                return None;
            }
        };
        if let (Some(size), true) = (fields.get("size"), kind != "tmpfs") {
            self.findings.error("volume", &size.span, "only a tmpfs has a size", "add `type: tmpfs`");
        }
        if !["volume", "bind", "tmpfs", "image"].contains(&kind.as_str()) {
            return None;
        }
        let source = self.long_source(node, &fields, &kind, names)?;
        let is_image = matches!(source, VolumeSource::Image(_));
        if let (true, Some(false), Some(node)) = (is_image, fields.bool("read-only"), fields.get("read-only"))
        {
            let hint = "remove it, or copy the image's files to a volume";
            self.findings.error("volume", &node.span, "an image is always read-only", hint);
        }
        let read_only = fields.is_true("read-only") || is_image;
        Some(Volume { source, target, read_only })
    }

    fn long_source(
        &mut self,
        node: &Node,
        fields: &Fields<'_>,
        kind: &str,
        names: &Names<'_>,
    ) -> Option<VolumeSource> {
        let wrong = |reader: &mut Self, message: &str, hint: &str| {
            let span = fields.get("source").map_or(&node.span, |node| &node.span);
            reader.findings.error("volume", span, message, hint);
            None
        };
        match (kind, fields.get("source")) {
            ("tmpfs", None) => {
                Some(VolumeSource::Tmpfs(fields.text("size").and_then(|text| duration::bytes(&text))))
            }
            ("tmpfs", Some(_)) => wrong(self, "a tmpfs has no source", "remove it"),
            ("image", Some(image)) => Some(VolumeSource::Image(Box::new(self.image(image, names)?))),
            ("image", None) => wrong(self, "the image is missing", "add `source: IMAGE`"),
            ("bind", None) => wrong(self, "the path of the machine is missing", "add `source: /PATH`"),
            (_, None) => Some(VolumeSource::Anonymous),
            (kind, Some(source)) => {
                let text = self.plain(source)?;
                match (kind, VolumeSource::parse(&text)) {
                    ("bind", Ok(VolumeSource::Named(_))) => wrong(
                        self,
                        "the source of a bind must be a path",
                        "begin it with `/`, or write `type: volume`",
                    ),
                    ("volume", Ok(VolumeSource::Host(_))) => wrong(
                        self,
                        "the source of a volume must be a name",
                        "write a name, or `type: bind` for a path",
                    ),
                    (_, Ok(source)) => Some(source),
                    (_, Err(why)) => {
                        let hint = "write a name, or a path that begins with `/`";
                        wrong(self, &format!("invalid volume: {why}"), hint)
                    }
                }
            }
        }
    }

    fn check_targets(&mut self, volumes: &[Volume], places: &[Range<usize>]) {
        let mut targets = HashSet::new();
        for (volume, place) in volumes.iter().zip(places) {
            if !targets.insert(&volume.target) {
                let message = format!("two volumes have the path `{}`", volume.target.display());
                self.findings.error(
                    "volume",
                    place,
                    message,
                    "only the last one would be visible: remove \
                                                               one",
                );
            }
        }
    }
}

fn image_hint(name: &str) -> String {
    if let Some((scheme, rest)) = name.split_once("://").filter(|(scheme, _)| *scheme != "docker") {
        return format!("write it without `{scheme}://`: `{rest}`");
    }
    if let Some((transport, _)) = name.split_once(':').filter(|(_, details)| details.is_empty()) {
        return format!("write `{transport}:PATH`, with `:NAME` appended if there are several images");
    }
    let lower = name.to_lowercase();
    match lower != name && lower.parse::<Reference>().is_ok() {
        true => format!("write it in lower case: `{lower}`"),
        false => "write `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`".into(),
    }
}

fn into_text(path: std::path::PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

impl Image {
    /// A placeholder after an error that has been reported.
    fn unknown() -> Self {
        Self { name: Template::default(), reference: None, span: 0..0 }
    }
}

impl Container {
    /// A placeholder after an error that has been reported.
    pub(super) fn unknown() -> Self {
        Self::named(Image::unknown())
    }
}
