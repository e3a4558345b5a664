//! Writes bbolt files of any shape.

use fastrand::Rng;

use super::judge::Pair;

/// How a file is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) page_bytes: usize,
    /// At most so many elements go into one page, even if more would fit.
    pub(crate) elements_max: usize,
    /// Buckets whose page has up to so many bytes lie in the page of the root.
    pub(crate) inline_bytes_max: usize,
    /// Pages lie in a random order, with free ones full of old content between them.
    pub(crate) is_scattered: bool,
    /// The newer meta page stands on page 0, as in a saved snapshot.
    pub(crate) newer_first: bool,
    /// The file goes on behind the last page.
    pub(crate) extra_bytes: usize,
    pub(crate) seed: u64,
}

impl Shape {
    /// As etcd on Linux lays out a file.
    pub(crate) const ETCD: Self = Self {
        page_bytes: 4096,
        elements_max: usize::MAX,
        inline_bytes_max: 1024,
        is_scattered: false,
        newer_first: false,
        extra_bytes: 0,
        seed: 1,
    };
}

pub(crate) type Bucket = (Vec<u8>, Vec<Pair>);

/// A file, and where its pages are.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) file: Vec<u8>,
    pub(crate) page_bytes: usize,
    pub(crate) pages: Vec<Page>,
    pub(crate) high_water: u64,
    /// Where in `pages` the root is.
    pub(crate) root: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) id: usize,
    pub(crate) is_leaf: bool,
    pub(crate) count: usize,
    /// How many pages it has, overflow included.
    pub(crate) pages: usize,
    /// Its distance from the root of its bucket.
    pub(crate) depth: usize,
}

/// A page whose number is not known yet.
struct Draft {
    elements: Vec<(Vec<u8>, Content)>,
    depth: usize,
}

enum Content {
    Value(Vec<u8>),
    /// A bucket with its root in a draft.
    Bucket(usize),
    /// A bucket whose page is here.
    Inline(Vec<u8>),
    Child(usize),
}

impl Draft {
    fn is_leaf(&self) -> bool {
        !matches!(self.elements.first(), Some((_, Content::Child(_))))
    }

    fn bytes(&self) -> usize {
        let elements = self
            .elements
            .iter()
            .map(|(key, content)| bytes_of(key, content));
        16 + elements.sum::<usize>()
    }
}

fn bytes_of(key: &[u8], content: &Content) -> usize {
    16 + key.len()
        + match content {
            Content::Value(value) => value.len(),
            Content::Bucket(_) => 16,
            Content::Inline(page) => 16 + page.len(),
            Content::Child(_) => 0,
        }
}

/// Writes a database. Buckets and elements must ascend by name and key.
pub(crate) fn build(shape: &Shape, buckets: &[Bucket]) -> Built {
    let mut drafts = Vec::new();
    let mut roots = Vec::new();
    for (name, elements) in buckets {
        let values = elements.iter();
        let values = values.map(|(key, value)| (key.clone(), Content::Value(value.clone())));
        let leaf = Draft {
            elements: values.collect(),
            depth: 0,
        };
        let content = if leaf.bytes() <= shape.inline_bytes_max {
            Content::Inline(encode(&leaf, 0, leaf.bytes(), &[]))
        } else {
            Content::Bucket(tree(shape, leaf.elements, &mut drafts))
        };
        roots.push((name.clone(), content));
    }
    let root = tree(shape, roots, &mut drafts);
    lay_out(shape, &drafts, root)
}

/// Makes the drafts of a tree and returns the place of its root.
fn tree(shape: &Shape, elements: Vec<(Vec<u8>, Content)>, drafts: &mut Vec<Draft>) -> usize {
    let first = drafts.len();
    let mut level = elements;
    loop {
        let mut above = Vec::new();
        let mut draft = Draft {
            elements: vec![],
            depth: 0,
        };
        for (key, content) in level {
            let is_full = draft.elements.len() >= shape.elements_max
                || draft.bytes() + bytes_of(&key, &content) > shape.page_bytes;
            if !draft.elements.is_empty() && is_full {
                above.push((draft.elements[0].0.clone(), Content::Child(drafts.len())));
                let elements = std::mem::take(&mut draft.elements);
                drafts.push(Draft { elements, depth: 0 });
            }
            draft.elements.push((key, content));
        }
        let key = draft
            .elements
            .first()
            .map(|(key, _)| key.clone())
            .unwrap_or_default();
        above.push((key, Content::Child(drafts.len())));
        drafts.push(draft);
        for below in &mut drafts[first..] {
            below.depth += 1;
        }
        if above.len() == 1 {
            for draft in &mut drafts[first..] {
                draft.depth -= 1;
            }
            let depth = drafts[drafts.len() - 1].depth;
            for draft in &mut drafts[first..] {
                draft.depth -= depth;
            }
            return drafts.len() - 1;
        }
        level = above;
    }
}

fn lay_out(shape: &Shape, drafts: &[Draft], root: usize) -> Built {
    let mut rng = Rng::with_seed(shape.seed);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    if shape.is_scattered {
        rng.shuffle(&mut order);
    }
    let mut ids = vec![0; drafts.len()];
    let mut next = 3;
    for at in order {
        if shape.is_scattered {
            next += rng.usize(0..3);
        }
        ids[at] = next;
        next += drafts[at].bytes().div_ceil(shape.page_bytes).max(1);
    }
    let mut file = vec![0; next * shape.page_bytes + shape.extra_bytes];
    if shape.is_scattered {
        file.fill_with(|| rng.u8(..));
    }
    let mut pages = Vec::new();
    for (draft, id) in drafts.iter().zip(&ids) {
        let count = draft.bytes().div_ceil(shape.page_bytes).max(1);
        let bytes = encode(draft, *id, shape.page_bytes, &ids);
        file[id * shape.page_bytes..][..bytes.len()].copy_from_slice(&bytes);
        pages.push(Page {
            id: *id,
            is_leaf: draft.is_leaf(),
            count: draft.elements.len(),
            pages: count,
            depth: draft.depth,
        });
    }
    let mut built = Built {
        file,
        page_bytes: shape.page_bytes,
        pages,
        high_water: next as u64,
        root,
    };
    let txids = if shape.newer_first { [8, 7] } else { [6, 7] };
    for (page, txid) in txids.into_iter().enumerate() {
        let meta = Meta {
            root: ids[root] as u64,
            high_water: next as u64,
            txid,
        };
        built.write_meta(page, meta);
    }
    built
}

/// What goes into a meta page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) root: u64,
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
}

impl Built {
    /// Writes a meta page and its checksum.
    pub(crate) fn write_meta(&mut self, page: usize, meta: Meta) {
        let mut bytes = vec![0; self.page_bytes];
        bytes[0] = u8::try_from(page).unwrap();
        bytes[8] = 4;
        bytes[16..20].copy_from_slice(&0xed0c_daed_u32.to_le_bytes());
        bytes[20] = 2;
        bytes[24..28].copy_from_slice(&u32::try_from(self.page_bytes).unwrap().to_le_bytes());
        bytes[32..40].copy_from_slice(&meta.root.to_le_bytes());
        bytes[48..56].fill(0xff);
        bytes[56..64].copy_from_slice(&meta.high_water.to_le_bytes());
        bytes[64..72].copy_from_slice(&meta.txid.to_le_bytes());
        let sum = bytes[16..72]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        bytes[72..80].copy_from_slice(&sum.to_le_bytes());
        self.file[page * self.page_bytes..][..self.page_bytes].copy_from_slice(&bytes);
    }

    /// Where in the file a page begins.
    pub(crate) fn at(&self, page: &Page) -> usize {
        page.id * self.page_bytes
    }

    /// Where in the file an element of a page begins.
    pub(crate) fn element_at(&self, page: &Page, i: usize) -> usize {
        self.at(page) + 16 + 16 * i
    }
}

/// The bytes of a page, filled up to whole pages of `page_bytes`.
fn encode(draft: &Draft, id: usize, page_bytes: usize, ids: &[usize]) -> Vec<u8> {
    let count = draft.elements.len();
    let pages = draft.bytes().div_ceil(page_bytes).max(1);
    let mut page = vec![0; pages * page_bytes];
    page[..8].copy_from_slice(&(id as u64).to_le_bytes());
    page[8] = if draft.is_leaf() { 2 } else { 1 };
    page[10..12].copy_from_slice(&u16::try_from(count).unwrap().to_le_bytes());
    page[12..16].copy_from_slice(&u32::try_from(pages - 1).unwrap().to_le_bytes());
    let mut data = 16 + 16 * count;
    for (i, (key, content)) in draft.elements.iter().enumerate() {
        let at = 16 + 16 * i;
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let (flags, value) = match content {
            Content::Child(child) => {
                page[at..at + 4].copy_from_slice(&number(data - at));
                page[at + 4..at + 8].copy_from_slice(&number(key.len()));
                page[at + 8..at + 16].copy_from_slice(&(ids[*child] as u64).to_le_bytes());
                page[data..data + key.len()].copy_from_slice(key);
                data += key.len();
                continue;
            }
            Content::Value(value) => (0, value.clone()),
            Content::Bucket(root) => {
                let root = (ids[*root] as u64).to_le_bytes();
                (1, [root, [0; 8]].concat())
            }
            Content::Inline(page) => (1, [&[0; 16], page.as_slice()].concat()),
        };
        page[at] = flags;
        page[at + 4..at + 8].copy_from_slice(&number(data - at));
        page[at + 8..at + 12].copy_from_slice(&number(key.len()));
        page[at + 12..at + 16].copy_from_slice(&number(value.len()));
        page[data..data + key.len()].copy_from_slice(key);
        data += key.len();
        page[data..data + value.len()].copy_from_slice(&value);
        data += value.len();
    }
    page
}
