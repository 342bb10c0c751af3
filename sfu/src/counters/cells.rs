//! Structs of plain `u64` that flatten into numbered cells, so that another thread can be shown them.

/// Flattens into `LEN` cells, in declaration order.
pub trait Cells {
    /// How many cells.
    const LEN: usize;

    /// Shows every cell.
    fn visit(&self, see: &mut impl FnMut(u64));

    /// Lets every cell be changed, in the same order.
    fn visit_mut(&mut self, change: &mut impl FnMut(&mut u64));

    /// Adds the other's, cell by cell.
    fn add(&mut self, other: &Self) {
        let mut values = Vec::with_capacity(Self::LEN);
        other.visit(&mut |value| values.push(value));
        let mut values = values.into_iter();
        self.visit_mut(&mut |cell| *cell = cell.wrapping_add(values.next().unwrap_or(0)));
    }
}

impl Cells for u64 {
    const LEN: usize = 1;

    fn visit(&self, see: &mut impl FnMut(u64)) {
        see(*self);
    }

    fn visit_mut(&mut self, change: &mut impl FnMut(&mut u64)) {
        change(self);
    }
}

impl<T: Cells, const N: usize> Cells for [T; N] {
    const LEN: usize = N * T::LEN;

    fn visit(&self, see: &mut impl FnMut(u64)) {
        self.iter().for_each(|item| item.visit(see));
    }

    fn visit_mut(&mut self, change: &mut impl FnMut(&mut u64)) {
        self.iter_mut().for_each(|item| item.visit_mut(change));
    }
}

/// Declares structs and their [`Cells`] at once: a field cannot be added and then not published.
macro_rules! cells {
    ($($(#[$meta:meta])* pub struct $name:ident $(<const $n:ident: usize>)? {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+
    })+) => {$(
        $(#[$meta])*
        pub struct $name $(<const $n: usize>)? {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $(<const $n: usize>)? $crate::counters::Cells for $name $(<$n>)? {
            const LEN: usize = 0 $(+ <$type as $crate::counters::Cells>::LEN)+;

            fn visit(&self, see: &mut impl FnMut(u64)) {
                $($crate::counters::Cells::visit(&self.$field, see);)+
            }

            fn visit_mut(&mut self, change: &mut impl FnMut(&mut u64)) {
                $($crate::counters::Cells::visit_mut(&mut self.$field, change);)+
            }
        }
    )+};
}

pub(crate) use cells;
