//! Files in the shapes of `pkg/sysregistriesv2/testdata` of containers/image.

pub(crate) const EMPTY: &str = "";
pub(crate) const MIRRORS: &str = "
    [[registry]]
    location = 'registry.com'
    [[registry.mirror]]
    location = 'mirror-1.registry.com'
    [[registry.mirror]]
    location = 'mirror-2.registry.com'
    insecure = true
    [[registry]]
    location = 'blocked.registry.com'
    blocked = true";
/// `unmarshal.conf`, `invalidate-cache.conf` and the file of `TestConfigCache`.
pub(crate) const FOUR: &str = "
    registry = [
        {location = 'registry.com', mirror = [{location = 'mirror-1.registry.com'}, {location = 'mirror-2.registry.com'}]},
        {location = 'blocked.registry.com', blocked = true},
        {location = 'insecure.registry.com', insecure = true},
        {location = 'untrusted.registry.com', insecure = true},
    ]";
/// `try-update-cache-valid.conf`.
pub(crate) const ONE: &str = "[[registry]]\nlocation = 'registry.com'";
pub(crate) const FIND: &str = "
    registry = [
        {prefix = 'simple-prefix.com', location = 'registry.com:5000'},
        {prefix = 'complex-prefix.com:4000/with/path', location = 'another-registry.com:5000'},
        {prefix = 'another-registry.com', location = 'registry.com:5000'},
        {location = 'no-prefix.com'},
        {location = 'empty-prefix.com', prefix = ''},
        {prefix = '*.so.simple-prefix.com', location = 'subdomain-prefix.com'},
        {prefix = '*.simple-prefix.com', location = 'subdomain-prefix-2.com'},
        {prefix = '*.not.quite.simple-prefix.com', location = 'subdomain-prefix-1.com'},
        {prefix = '*.docker.io', location = 'subdomain-prefix-2.com'},
        {prefix = '*.bar.example.com', location = 'subdomain-prefix-3.com'},
        {prefix = '*.bar.docker.io', location = 'subdomain-prefix-4.com'},
        {prefix = 'foo.bar.example.com:5000', location = 'subdomain-prefix-5.com'},
        {prefix = '*.internal.registry.com'},
        {prefix = '*.com'},
        {prefix = '*.foobar.io'},
    ]";
pub(crate) const PULL_SOURCES: &str = "
    [[registry]]
    prefix = 'registry-a.com/foo'
    location = 'registry-a.com/bar'
    mirror = [{location = 'mirror-1.registry-a.com'}, {location = 'mirror-2.registry-a.com', insecure = true}]
    [[registry]]
    prefix = 'registry-b.com/foo'
    location = 'registry-b.com/bar'
    mirror-by-digest-only = true
    mirror = [{location = 'mirror-1.registry-b.com'}, {location = 'mirror-2.registry-b.com'}]
    [[registry]]
    prefix = 'registry-a.com/baz'
    location = 'registry-a.com/bar'
    mirror = [{location = 'mirror-1.registry-a.com'}, {location = 'mirror-2.registry-a.com', insecure = true}]
    [[registry]]
    prefix = 'registry-b.com/baz'
    location = 'registry-b.com/bar'
    [[registry.mirror]]
    location = 'mirror-1.registry-b.com'
    pull-from-mirror = 'digest-only'
    [[registry.mirror]]
    location = 'mirror-2.registry-b.com'
    pull-from-mirror = 'digest-only'
    [[registry]]
    prefix = 'registry-c.com/baz'
    location = 'registry-c.com/bar'
    [[registry.mirror]]
    location = 'mirror-1.registry-c.com'
    [[registry.mirror]]
    location = 'mirror-2.registry-c.com'
    pull-from-mirror = 'digest-only'
    [[registry]]
    prefix = 'registry-d.com/baz'
    location = 'registry-d.com/bar'
    mirror-by-digest-only = true
    mirror = [{location = 'mirror-1.registry-d.com'}, {location = 'mirror-2.registry-d.com'}]
    [[registry]]
    prefix = 'registry-e.com/baz'
    location = 'registry-e.com/bar'
    [[registry.mirror]]
    location = 'mirror-1.registry-e.com'
    pull-from-mirror = 'tag-only'
    [[registry.mirror]]
    location = 'mirror-2.registry-e.com'
    pull-from-mirror = 'tag-only'
    [[registry]]
    prefix = 'registry-f.com/baz'
    location = 'registry-f.com/bar'
    [[registry.mirror]]
    location = 'mirror-1.registry-f.com'
    [[registry.mirror]]
    location = 'mirror-2.registry-f.com'
    pull-from-mirror = 'tag-only'
    [[registry]]
    prefix = 'registry-g.com/baz'
    location = 'registry-g.com/bar'
    [[registry.mirror]]
    location = 'mirror-1.registry-g.com'
    pull-from-mirror = 'digest-only'
    [[registry.mirror]]
    location = 'mirror-2.registry-g.com'
    pull-from-mirror = 'tag-only'
    [[registry.mirror]]
    location = 'mirror-3.registry-g.com'
    [[registry.mirror]]
    location = 'mirror-4.registry-g.com'
    pull-from-mirror = 'all'";
pub(crate) const SEARCH: &str = "
    unqualified-search-registries = ['registry-a.com', 'registry-c.com', 'registry-d.com']
    registry = [{location = 'registry-a.com'}, {location = 'registry-b.com'}, {location = 'registry-c.com'},
        {location = 'registry-d.com'}]";
pub(crate) const ALIASES: &str = "
    short-name-mode = 'enforcing'
    [aliases]
    docker = 'docker.io/library/foo'
    'quay/foo' = 'quay.io/library/foo'
    example = 'example.com/library/foo'
    empty = ''";
pub(crate) const HELPERS: &str = "
    credential-helpers = ['helper-1', 'helper-2']
    registry = [{location = 'registry-a.com'}, {location = 'registry-b.com'},
        {prefix = 'registry-c.com', location = 'registry-c.com/foo'}]";
/// `base-for-registries.d.conf`.
pub(crate) const BASE: &str = "
    unqualified-search-registries = ['example.com']
    [[registry]]
    location = 'base.com'
    insecure = true";
pub(crate) const NO_SEARCH: &str = "# no key at all";
pub(crate) const EMPTY_SEARCH: &str = "unqualified-search-registries = []";
pub(crate) const EMPTY_HELPERS: &str = "credential-helpers = []";

/// The directory `registries.conf.d`, in the order of its names.
pub(crate) const DROP_INS: &[&str] = &[
    "
    unqualified-search-registries = ['example-overwrite.com']
    credential-helpers = ['we', 'will', 'be', 'overridden', 'later']
    [[registry]]
    location = '1.com'
    [aliases]
    docker = 'docker.io/library/config1'
    config1 = 'config1.com/image'
    barz = 'barz.com/image/config1'",
    "
    short-name-mode = 'permissive'
    credential-helpers = ['dropin-1', 'dropin-2']
    registry = [{location = '1.com'}, {location = '2.com'}, {location = 'base.com', blocked = true}]
    [aliases]
    config2 = 'config2.com/image'
    barz = 'barz.com/config2'
    added3 = 'xxx.com/image'
    example = ''",
    "",
    "
    [[registry]]
    prefix = '*.not.quite.simple-prefix.com'
    location = 'subdomain-prefix-1-overridden-by-dropin-location.com'",
    "
    [[registry]]
    prefix = '*.docker.com'
    location = 'subdomain-prefix-2-overridden-by-dropin-location.com'",
    "
    [[registry]]
    prefix = '*.bar.example.com'
    location = 'subdomain-prefix-3-overridden-by-dropin-location.com'",
];

/// Files that are refused, with a part of the reason here.
pub(crate) const INVALID: &[(&str, &str, &str)] = &[
    (
        "insecure-conflicts.conf",
        "registry = [{location = 'registry.com', mirror = [{location = 'mirror-1.registry.com'}]},
            {location = 'registry.com', insecure = true}]",
        "different `insecure`",
    ),
    (
        "blocked-conflicts.conf",
        "registry = [{location = 'registry.com', mirror = [{location = 'mirror-1.registry.com'}]},
            {location = 'registry.com', blocked = true}]",
        "`blocked`",
    ),
    (
        "missing-mirror-location.conf",
        "unqualified-search-registries = ['registry-a.com']
         registry = [{location = 'registry-a.com'},
            {location = 'registry-b.com', mirror = [{location = 'mirror-b.com'}, {}]}]",
        "a mirror of `registry-b.com` has no `location`",
    ),
    (
        "invalid-prefix.conf",
        "registry = [{prefix = 'http://schema-is-invalid.com', location = 'registry.com:5000'}]",
        "is a URL",
    ),
    (
        "invalid-search.conf",
        "unqualified-search-registries = ['registry-a.com/namespace-is-forbidden']",
        "not a host",
    ),
    ("invalid-aliases.conf", "aliases = {image1 = 'quay.io/repo/image:1', image2 = 'image:1'}", "`image1`"),
    ("invalid-short-name-mode.conf", "short-name-mode = 'invalid'", "`invalid`"),
    (
        "invalid-config-level-mirror.conf",
        "registry = [{prefix = 'registry-a.com/foo', location = 'registry-a.com/bar', pull-from-mirror = 'digest-only',
            mirror = [{location = 'mirror-1.registry-a.com'}]}]",
        "belongs in the table of a mirror",
    ),
    (
        "invalid-conflict-mirror.conf",
        "registry = [{prefix = 'registry-a.com/foo', location = 'registry-a.com/bar', mirror-by-digest-only = true,
            mirror = [{location = 'mirror-1.registry-a.com', pull-from-mirror = 'digest-only'}]}]",
        "only one is allowed",
    ),
    (
        "invalid-value-mirror.conf",
        "registry = [{prefix = 'registry-a.com/foo', location = 'registry-a.com/bar',
            mirror = [{location = 'mirror-1.registry-a.com', pull-from-mirror = 'notvalid'}]}]",
        "not `notvalid`",
    ),
    ("try-update-cache-invalid.conf", "invalid", "not a version 2"),
    (
        "mixing-v1-v2.conf",
        "unqualified-search-registries = ['registry-a.com', 'registry-c.com']
         registries.search.registries = ['registry-a.com', 'registry-c.com']
         registries.block.registries = ['registry-b.com']
         registry = [{location = 'registry-a.com'}]",
        "version 1",
    ),
    (
        "mixing-v1-v2-empty.conf",
        "unqualified-search-registries = []\nregistries.search.registries = []",
        "version 1",
    ),
    (
        "v1-invalid-block.conf",
        "registries.block.registries = ['registry-b.com', 'http://schema-is-invalid.com']",
        "version 1",
    ),
    (
        "v1-invalid-insecure.conf",
        "registries.insecure.registries = ['registry-d.com', 'http://schema-is-invalid.com']",
        "version 1",
    ),
    (
        "v1-invalid-search.conf",
        "registries.search.registries = ['registry-a.com////', 'http://schema-is-invalid.com']",
        "version 1",
    ),
];

/// `v1-compatibility.conf`, which is valid there.
pub(crate) const VERSION_1: &str = "
    registries.search.registries = ['registry-a.com////', 'registry-c.com', 'registry-d.com']
    registries.block.registries = ['registry-b.com']
    registries.insecure.registries = ['registry-b.com////', 'registry-d.com', 'registry-e.com', 'registry-a.com']";
