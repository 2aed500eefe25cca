//! The table of vendors' names, as data.

/// One shape of the paths that a vendor's cameras write.
#[derive(Debug)]
pub(super) struct Naming {
    /// The vendor; `None`: a shape that any vendor may use.
    pub(super) vendor: Option<&'static str>,
    /// The shape for people, in which `...` stands for folders and `E` for an event.
    pub(super) shape: &'static str,
    /// A regular expression in which a word in braces stands for one of [`FRAGMENTS`].
    pub(super) pattern: &'static str,
    /// How its clock is read.
    pub(super) clock: Clock,
}

/// How the clock of a row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The digits of its groups, from a year of four digits.
    Four,
    /// The digits of its groups, from a year of two digits.
    Two,
    /// By the grammar of stamps. The pattern only finds names that may have one.
    AnyStamp,
}

use Clock::{AnyStamp, Four, Two};

/// Words that stand for parts of patterns. Patterns match bytes, because names need not be UTF-8.
const FRAGMENTS: &[(&str, &str)] = &[
    ("{name}", r"{folder}"),
    ("{folder}", r"(?:^|/)"),
    ("{folders}", r"(?:[^/]+/)*?"),
    ("{device}", r"(?P<device>[^/]+?)"),
    // An event is any word that does not begin with a digit. The first alternative is the usual case and never backtracks.
    ("{event}", r"(?P<event>[A-Za-z]+(?:_[A-Za-z]+)*|[^/0-9_][^/]*?)"),
    ("{stamp17}", r"(?P<stamp>[0-9]{17})"),
    ("{stamp14}", r"(?P<stamp>[0-9]{14})"),
    ("{stamp8-6}", r"(?P<stamp>[0-9]{8}[-_][0-9]{6})"),
    ("{n}", r"(?:_[0-9]+)?"),
    // A `_` at the end marks a file that is still being written; FTP servers add `.1` where a name is taken (STOU).
    ("{ext}", r"(?:\.[A-Za-z0-9]{1,5}_?(?:\.[0-9]{1,3})?)?$"),
    ("{day}", r"{folder}(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})/"),
    ("{h.m.s}", r"(?P<time>[0-9]{2}\.[0-9]{2}\.[0-9]{2})"),
    ("{h/m/s}", r"(?P<time>[0-9]{2}/[0-9]{2}/[0-9]{2})"),
    ("{-h.m.s}", r"(?:-[0-9]{2}\.[0-9]{2}\.[0-9]{2})?"),
    // Dahua writes what started the recording, and numbers.
    ("{[E]}", r"\[(?P<event>[A-Za-z]+)\][^/]*$"),
    ("{[E]?}", r"(?:\[(?P<event>[A-Za-z]+)\][^/]*$|{ext})"),
    ("{ip}", r"(?P<device>[0-9]{1,3}(?:\.[0-9]{1,3}){3})"),
    ("{anpr}", r"(?P<event>VEHICLE_DETECTION|PLATE|BACKGROUND)"),
    (
        "{word}",
        r"(?P<event>[A-Z]+(?:_[A-Z]+)*_(?:DETECTION|SNAP|BACKGROUND|INPUT)|[A-Z]*DETECTION|TIMING|VMD|PIR|IO|EVENT)",
    ),
];

/// The table. Its shapes come from manuals, and from the logs and issue threads of each vendor's users.
pub(super) const NAMINGS: &[Naming] = &[
    Naming {
        vendor: Some("hikvision"),
        shape: "IP_CH_YYYYMMDDhhmmssmmm_PLATE_VEHICLE_DETECTION.jpg",
        pattern: r"{name}{device}_(?P<channel>[0-9]{2,3})_{stamp17}_(?:[^/_]*[0-9][^/_]*|(?i:unknown))_(?P<event>VEHICLE_DETECTION){n}{ext}",
        clock: Four,
    },
    // By far the most frequent shape. Behind the device it is clear where each part ends, so the engine reads it in one pass.
    Naming {
        vendor: Some("hikvision"),
        shape: "IP_CH_YYYYMMDDhhmmssmmm[_EVENT].jpg",
        pattern: r"{name}{device}_(?P<channel>[0-9]{2,3})_{stamp17}(?:_(?P<event>[A-Za-z]+(?:_[A-Za-z]+)*))?{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("hikvision"),
        shape: "NAME_CH_YYYYMMDDhhmmssmmm[_EVENT][_n].jpg",
        pattern: r"{name}{device}_(?P<channel>[0-9]{2,3})_{stamp17}(?:_{event})?{n}{ext}",
        clock: Four,
    },
    // The device keeps the serial number, because many cameras may have the same prefix.
    Naming {
        vendor: Some("hikvision"),
        shape: "PREFIX_SERIAL_YYYYMMDDhhmmssmmm[_EVENT][_n].jpg",
        pattern: r"{name}(?P<device>[^/]+?_(?:[A-Za-z]{2}[0-9]{7}|[A-Za-z][0-9]{8}|[0-9]{9}))_{stamp17}(?:_{event})?{n}{ext}",
        clock: Four,
    },
    // The camera's owner chooses the order of the fields; words such as PLATE show which is which.
    Naming {
        vendor: Some("hikvision"),
        shape: "[IP_][DIRECTION_]YYYYMMDDhhmmssmmm_PLATE_(VEHICLE_DETECTION|PLATE|BACKGROUND).jpg",
        pattern: r"{name}(?:{ip}_)?(?:[^/]*?_)??{stamp17}(?:_[^/]*)?_{anpr}(?:_[^/]*?)?{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("hikvision"),
        shape: "[IP_](VEHICLE_DETECTION|PLATE|BACKGROUND)_..._YYYYMMDDhhmmssmmm.jpg",
        pattern: r"{name}(?:{ip}_)?(?:[^/]*_)?{anpr}_(?:[^/]*_)?{stamp17}(?:_[^/]*?)?{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("xiongmai"),
        shape: ".../YYYY-MM-DD/CCC/hh.mm.ss-hh.mm.ss[E][@hex][n].h264",
        pattern: r"{day}(?:(?P<channel>[0-9]{1,3})/)?{folders}{h.m.s}{-h.m.s}\[(?P<event>[A-Za-z]+)\]\[@[0-9A-Za-z]*\][^/]*$",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: ".../YYYY-MM-DD/[pic_]CCC/[jpg/]hh/mm/ss[E][0@0][n].jpg",
        pattern: r"{day}(?:pic_)?(?P<channel>[0-9]{1,3})/(?:(?i:jpg|pic)/)?{h/m/s}{[E]}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: ".../YYYY-MM-DD/[jpg/]hh/mm/ss[E][0@0][n].jpg",
        pattern: r"{day}(?:(?i:jpg|pic)/)?{h/m/s}{[E]}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: ".../YYYY-MM-DD/[pic_]CCC/(dav|jpg)/hh/hh.mm.ss[-hh.mm.ss][E][0@0][n].mp4",
        pattern: r"{day}(?:(?:pic_)?(?P<channel>[0-9]{1,3})/)?{folders}{h.m.s}{-h.m.s}{[E]?}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: "YYYY-MM-DD_CCC_hh.mm.ss[-hh.mm.ss][E][0@0][n].jpg",
        pattern: r"{name}(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})_(?P<channel>[0-9]{1,3})_{h.m.s}{-h.m.s}{[E]?}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: "[DEVICE_]CCC_YYYYMMDDhhmmss_[E][0@0][n].jpg",
        pattern: r"{name}(?:{device}_)?(?P<channel>[0-9]{1,3})_{stamp14}_?{[E]}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: "DEVICE_chN_(main|sub)_YYYYMMDDhhmmss_YYYYMMDDhhmmss.dav",
        pattern: r"{name}{device}_(?i:ch)(?P<channel>[0-9]+)_(?:[A-Za-z0-9]+_)?{stamp14}_[0-9]{14}{n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: ".../YYYY_MM_DD_hh_mm_ss_n.jpg",
        pattern: r"{name}(?P<stamp>[0-9]{4}(?:_[0-9]{2}){5})_[0-9]{1,3}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("foscam"),
        shape: "(snap|record)/(MDAlarm|Schedule|...)_YYYYMMDD-hhmmss.jpg",
        pattern: r"{name}(?P<event>(?i:[a-z]*alarm|schedule|manual))_{stamp8-6}{n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("foscam"),
        shape: "MAC(ALIAS)_d_YYYYMMDDhhmmss_n.jpg",
        pattern: r"{name}(?P<device>[0-9A-Fa-f]{12}\([^/]*\))_(?P<event>[0-9]+)_{stamp14}{n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("hi35xx"),
        shape: "imagesNNN/EYYMMDDhhmmssnn.jpg",
        pattern: r"{folder}images[0-9]+/(?P<event>[A-Za-z])(?P<stamp>[0-9]{12})[0-9]{2}{ext}",
        clock: Two,
    },
    Naming {
        vendor: Some("hi35xx"),
        shape: "[recordNNN/]EYYMMDD_hhmmss_hhmmss.mp4",
        pattern: r"{name}(?P<event>[A-Za-z])(?P<stamp>[0-9]{6}_[0-9]{6})_[0-9]{6}{ext}",
        clock: Two,
    },
    Naming {
        vendor: Some("yi"),
        shape: "YYYYYMMMDDDHHH/[En]mmMssSdd.mp4",
        pattern: r"{folder}(?P<date>[0-9]{4}Y[0-9]{2}M[0-9]{2}D[0-9]{2}H)/(?:E[0-9]+)?(?P<time>[0-9]{2}M[0-9]{2}S)[0-9]*{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("tvt"),
        shape: ".../EVENT/YYYY-MM-DD/hh/EVENT_YYYY-MM-DD-hh-mm-ss-mmm_nnn.jpg",
        pattern: r"{name}{event}_(?P<stamp>[0-9]{4}(?:-[0-9]{2}){5}-[0-9]{3}){n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("axis"),
        shape: "imageYY-MM-DD_hh-mm-ss-ff[_n].jpg",
        pattern: r"{name}(?:[^/]*[^/0-9-])?(?P<stamp>[0-9]{2}-[0-9]{2}-[0-9]{2}_[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}){n}{ext}",
        clock: Two,
    },
    Naming {
        vendor: Some("axis"),
        shape: ".../YYYYMMDD_hh/YYYYMMDD_hhmmss_XXXX.mkv",
        pattern: r"{name}{stamp8-6}_[0-9A-F]{4}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("vivotek"),
        shape: "PREFIX_YYYYMMDDhhmmss_n_(pre|trg|pos).jpg",
        pattern: r"{name}{device}_{stamp14}_[0-9]+_(?P<event>pre|trg|pos){ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("vivotek"),
        shape: "(pre|trg|pos)_YYYYMMDDhhmmss.jpg",
        pattern: r"{name}(?:{device}_)?(?P<event>pre|trg|pos)_{stamp14}{n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("acti"),
        shape: "NAME_YYYY_MM_DD@hhmmss.jpg",
        pattern: r"{name}{device}_(?P<stamp>[0-9]{4}_[0-9]{2}_[0-9]{2}@[0-9]{6}){n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("acti"),
        shape: "Img_YYYY-MM-DD/Snap_hhmmss_mmm_n.jpg",
        pattern: r"{folder}Img_(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})/{folders}Snap_(?P<time>[0-9]{6}_[0-9]{3}){n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("reolink"),
        shape: "[YYYY/MM/DD/]NAME_CH_YYYYMMDDhhmmss.jpg",
        pattern: r"{name}{device}_(?P<channel>[0-9]{2})_{stamp14}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("reolink"),
        shape: "[YYYY/MM/DD/]NAME_YYYYMMDDhhmmss.jpg",
        pattern: r"{name}{device}_{stamp14}{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("vivotek"),
        shape: "PREFIX[-_@]YYYYMMDD[-_]hhmmss.jpg",
        pattern: r"{name}(?P<device>[^/]*?[^/0-9_@-])[-_@]?{stamp8-6}{n}{ext}",
        clock: Four,
    },
    Naming {
        vendor: None,
        shape: "MONITOR/YY/MM/DD/hh/mm/ss/... of ZoneMinder",
        pattern: r"{folder}(?P<date>[0-9]{2}/[0-9]{2}/[0-9]{2})/(?P<time>[0-9]{2}/[0-9]{2}/[0-9]{2})/[^/]+$",
        clock: Two,
    },
    Naming {
        vendor: None,
        shape: "...YYYY[-]MM[-]DD[_]hh[-]mm[-]ss[.fff][AM|PM][+hhmm]..., with any separators or none",
        pattern: r"{name}(?:[^/0-9]*[0-9]){9}",
        clock: AnyStamp,
    },
    // The rows from here on do not tell the time.
    Naming {
        vendor: Some("xiongmai"),
        shape: "hh.mm.ss-hh.mm.ss[E][@hex][n].h264 without its folders",
        pattern: r"{name}[0-9]{2}\.[0-9]{2}\.[0-9]{2}{-h.m.s}\[(?P<event>[A-Za-z]+)\]\[@[0-9A-Za-z]*\][^/]*$",
        clock: Four,
    },
    Naming {
        vendor: Some("dahua"),
        shape: "[hh.mm.]ss[-hh.mm.ss][E][0@0][n].dav without its folders",
        pattern: r"{name}(?:[0-9]{2}\.[0-9]{2}\.)?[0-9]{2}{-h.m.s}{[E]}",
        clock: Four,
    },
    Naming {
        vendor: Some("yi"),
        shape: "[En]mmMssSdd.mp4 without its folder",
        pattern: r"{name}(?:E[0-9]+)?[0-9]{2}M[0-9]{2}S[0-9]*{ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("mobotix"),
        shape: "NNN/NNN/ENNNNN.jpg",
        pattern: r"{folder}[0-9]+/[0-9]+/(?P<event>E[0-9]{5}){ext}",
        clock: Four,
    },
    Naming {
        vendor: Some("hikvision"),
        shape: "NAME_TIMING.jpg, overwritten for ever",
        pattern: r"{name}{device}_{word}{ext}",
        clock: Four,
    },
];

/// Replaces the words in braces of a row's pattern.
pub(super) fn expand(pattern: &str) -> String {
    // A fragment may contain another one.
    let once = |text: String| FRAGMENTS.iter().fold(text, |text, (word, meaning)| text.replace(word, meaning));
    once(once(pattern.to_owned()))
}
