//! How places are cut into tiles along an axis, and what their points are made of and make.

#![expect(clippy::indexing_slicing, reason = "tables have a place for each tile, point and place")]

/// Places in a tile, and the kinds of points that it becomes.
const TILE: usize = 3;
pub(super) const KINDS: usize = 4;
/// What a point of each kind is of the numbers that a tile sees, for tiles of one, two and three places.
const SEEN: [[[f64; TILE + 1]; KINDS]; TILE] = [
    [[1.0, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4], [0.0, 1.0, 0.0, 0.0]],
    [[1.0, -1.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0; 4], [0.0, -1.0, 1.0, 0.0]],
    [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]],
];
/// What each place of a tile is of its points.
const MADE: [[[f64; KINDS]; TILE]; TILE] = [
    [[1.0, 0.0, 0.0, 1.0], [0.0; 4], [0.0; 4]],
    [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0; 4]],
    [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 1.0]],
];

/// How places lie along one axis.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) places: usize,
    pub(super) image: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Up to three things that are summed up, with their factors.
#[derive(Clone, Copy)]
pub(super) struct Terms<K> {
    pub(super) items: [(K, f64); 3],
    pub(super) count: usize,
}

impl<K: Copy + Default> Terms<K> {
    pub(super) fn new(items: impl Iterator<Item = (K, f64)>) -> Self {
        let mut terms = Self { items: [(K::default(), 0.0); 3], count: 0 };
        for item in items.filter(|(_, factor)| *factor != 0.0) {
            terms.items[terms.count] = item;
            terms.count += 1;
        }
        terms
    }

    pub(super) fn map<R>(self, f: impl Fn(K) -> R) -> Terms<R> {
        Terms { items: self.items.map(|(key, factor)| (f(key), factor)), count: self.count }
    }
}

impl Axis {
    fn tiles(&self) -> usize {
        self.places.div_ceil(TILE)
    }

    /// How many tiles have a point of a kind: the first ones.
    pub(super) fn count(&self, kind: usize) -> usize {
        let kinds = [TILE - 1, 1, 0, TILE - 1];
        (self.places + kinds[kind]) / TILE
    }

    /// How many points are of lower kinds.
    pub(super) fn before(&self, kind: usize) -> usize {
        (0..kind).map(|kind| self.count(kind)).sum()
    }

    pub(super) fn points(&self) -> usize {
        self.before(KINDS)
    }

    /// How many places a tile has, less one.
    fn size(&self, tile: usize) -> usize {
        (self.places - tile * TILE).min(TILE) - 1
    }

    /// The pixel at a position of a phase, unless it lies outside.
    fn pixel(&self, position: usize, phase: usize) -> Option<usize> {
        (position * self.stride + phase).checked_sub(self.padding).filter(|&pixel| pixel < self.image)
    }

    /// The position and the phase of a pixel.
    pub(super) fn position(&self, pixel: usize) -> (usize, usize) {
        ((pixel + self.padding) / self.stride, (pixel + self.padding) % self.stride)
    }

    /// The pixels of a phase that a point is made of.
    pub(super) fn pixels_of(&self, kind: usize, tile: usize, phase: usize) -> Terms<usize> {
        let factors = SEEN[self.size(tile)][kind].into_iter().enumerate();
        Terms::new(factors.filter_map(|(place, factor)| {
            self.pixel(tile * TILE + place, phase).map(|pixel| (pixel, factor))
        }))
    }

    /// The points, by kind and tile, that a place is made of.
    pub(super) fn points_of(&self, place: usize) -> Terms<(usize, usize)> {
        let tile = place / TILE;
        let factors = MADE[self.size(tile)][place % TILE].into_iter().enumerate();
        Terms::new(factors.map(|(kind, factor)| ((kind, tile), factor)))
    }

    /// The places that are made of a point.
    pub(super) fn places_of(&self, kind: usize, tile: usize) -> Terms<usize> {
        let factors = MADE[self.size(tile)].into_iter().enumerate();
        Terms::new(factors.map(|(place, factors)| (tile * TILE + place, factors[kind])))
    }

    /// The points that see a position: of its tile, and, where it is a tile's first, of the one before.
    pub(super) fn points_at(&self, position: usize) -> Terms<(usize, usize)> {
        let (tile, place) = (position / TILE, position % TILE);
        let before = tile.checked_sub(1).filter(|_| place == 0 && position <= self.places);
        let before = before.map(|tile| (tile, TILE));
        let own = (position <= self.places && tile < self.tiles()).then_some((tile, place));
        Terms::new(own.into_iter().chain(before).flat_map(|(tile, place)| {
            let factors = SEEN[self.size(tile)].into_iter().enumerate();
            factors.map(move |(kind, factors)| ((kind, tile), factors[place]))
        }))
    }
}
