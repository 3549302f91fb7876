// SPDX-License-Identifier: MIT
#include "refhv/front/guests/apic_guest.hpp"

#include "refhv/front/session.hpp"

#include <array>

namespace refhv::front {

std::ostream& operator<<(std::ostream& out, const Arrival& arrival) {
    return out << "vector " << arrival.vector << " at " << std::hex << arrival.rip << std::dec;
}

namespace apic {

using client::Guest;
namespace layout = client::layout;

namespace {

// 256 stubs of 16 bytes, and what they share, which ends with the frame as the CPU has left it.
#define JOURNAL REFHV_ASM(REFHV_APIC_JOURNAL)
GUEST(interrupt_stubs, ".set refhv_interrupt, 0\n"
                       ".rept 256\n"
                       ".balign 16, 0xcc\n"
                       ".byte 0x68\n .long refhv_interrupt\n" // push $vector
                       "jmp 9f\n"
                       ".set refhv_interrupt, refhv_interrupt + 1\n"
                       ".endr\n"
                       ".balign 16, 0xcc\n"
                       "9: push %rax\n push %rcx\n"
                       "mov " JOURNAL ", %ecx\n shl $4, %ecx\n"
                       "mov 16(%rsp), %rax\n mov %rax, " JOURNAL "+16(%rcx)\n"
                       "mov 24(%rsp), %rax\n mov %rax, " JOURNAL "+24(%rcx)\n"
                       "incl " JOURNAL "\n"
                       "pop %rcx\n pop %rax\n add $8, %rsp")
GUEST(then_stop, "push $" REFHV_ASM(REFHV_STOP) "\n ret")
GUEST(then_iret, "iretq")
GUEST(then_eoi_by_msr, "push %rax\n push %rcx\n push %rdx\n"
                       "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
                       "pop %rdx\n pop %rcx\n pop %rax\n iretq")

constexpr u32 first_x2apic_msr = 0x800, x2apic_msrs = 0x100, low_writes = 0x800; // SDM 3C 25.6.9

constexpr u64 pin_posted = 1u << 7, exit_acknowledge = 1u << 15;

constexpr u32 word_of(u32 offset, unsigned vector) {
    return offset + (vector / 32) * 16;
}

} // namespace

std::string lacking(const client::HelloInfo& hello, Controls controls) {
    for (const Control& c : controls) {
        if (!offers(hello, c.field, c.bit)) {
            return std::string("no ") + c.name;
        }
    }
    return "";
}

void virtualize(Guest& guest, Controls controls, u64 further) {
    static_assert(first_x2apic_msr % 64 == 0 && x2apic_msrs % 64 == 0);
    guest.fill(bitmap, ~u64{0}, 0, page_size / 8, false);
    for (const u32 part : {0u, low_writes}) {
        guest.fill(bitmap + part + first_x2apic_msr / 8, 0, 0, x2apic_msrs / 64, false);
    }
    u64 proc = further, proc2 = 0;
    for (const Control& c : controls) {
        (c.field == vmcs::proc_controls ? proc : proc2) |= c.bit;
    }
    // The addresses first: a platform that somebody works on wants them before the controls that use them.
    guest.field(virtual_apic_address, 8, guest.host_physical(page));
    guest.field(access_address, 8, guest.host_physical(access_page));
    // The core has a TPR shadow of its own; here it is one of the controls or none.
    change(guest, vmcs::proc_controls, proc, vmcs::proc_tpr_shadow & ~proc);
    change(guest, vmcs::secondary_controls, proc2);
    guest.field(msr_bitmap, 8, guest.host_physical(bitmap));
    guest.field(tpr_threshold, 4, 0);
    if ((proc2 & delivery.bit) != 0) {
        put_eoi_exits(guest, {});
        put_status(guest, 0, 0);
    }
    clear_page(guest);
}

std::string lacking_posting(const client::HelloInfo& hello) {
    if (std::string why = lacking(hello, {tpr_shadow, delivery}); !why.empty()) {
        return why;
    }
    if (!offers(hello, vmcs::pin_controls, pin_posted) ||
        !offers(hello, vmcs::exit_controls, exit_acknowledge)) {
        return "no posted-interrupt processing (IA32_VMX_PINBASED_CTLS[39], IA32_VMX_EXIT_CTLS[47])";
    }
    return hello.fixed.cpus < 2 ? "no second CPU to post from" : "";
}

void accept_posts(Guest& guest, u64 descriptor, unsigned notification) {
    constexpr u32 notification_vector = 0x0002, descriptor_address = 0x2016;
    constexpr u64 descriptor_words = 8;
    change(guest, vmcs::pin_controls, pin_posted);
    change(guest, vmcs::exit_controls, exit_acknowledge);
    guest.field(notification_vector, 2, notification);
    guest.field(descriptor_address, 8, guest.host_physical(descriptor));
    guest.fill(descriptor, 0, 0, descriptor_words, false);
}

void notify(Guest& guest, const client::HelloInfo& hello, u64 descriptor, unsigned notification, u32 cpu) {
    constexpr u32 control_word = 32;
    const u64 id = hello.cpus.at(cpu).apic_id;
    const u64 destination = in_x2apic_mode(hello) ? id : id << 8;
    guest.fill(descriptor + control_word, destination << 32 | u64{notification} << 16, 0, 1, false);
}

namespace {
constexpr Controls with_ipis{tpr_shadow, x2apic, registers, delivery};
constexpr u64 activate_tertiary = 1u << 17, ipi_virtualization = 1u << 4;
} // namespace

std::string lacking_ipis(const client::HelloInfo& hello) {
    constexpr u32 vmx_proc3 = 0x492;
    if (std::string why = lacking(hello, with_ipis); !why.empty()) {
        return why;
    }
    const bool offered = offers(hello, vmcs::proc_controls, activate_tertiary) &&
                         (msr(hello, vmx_proc3) & ipi_virtualization) != 0;
    return offered ? "" : "no IPI virtualization (IA32_VMX_PROCBASED_CTLS3[4])";
}

void virtualize_ipis(Guest& guest, u64 table, unsigned targets) {
    constexpr u32 last_pid_pointer_index = 0x0008, tertiary_controls = 0x2034, pid_pointer_table = 0x2042;
    virtualize(guest, with_ipis, activate_tertiary);
    guest.fill(table, 0, 0, targets, false);
    guest.field(tertiary_controls, 8, ipi_virtualization);
    guest.field(pid_pointer_table, 8, guest.host_physical(table));
    guest.field(last_pid_pointer_index, 2, targets - 1);
}

void point_to(Guest& guest, u64 table, unsigned target, u64 descriptor) {
    constexpr u64 valid = 1;
    guest.fill(table + 8 * target, descriptor | valid, 0, 1, false);
}

void handle(Guest& guest, Handler handler) {
    const client::GuestCode tail = handler == Handler::stop   ? then_stop
                                   : handler == Handler::iret ? then_iret
                                                              : then_eoi_by_msr;
    static_assert(layout::handler % 0x10000 == 0, "a stub's address differs in the low 16 bits only");
    guest.write(layout::handler, interrupt_stubs.bytes());
    guest.write(layout::handler + interrupt_stubs.size(), tail.bytes());
    std::array<std::array<u64, 2>, 256 - first_vector> gates{};
    for (unsigned v = first_vector; v < 256; ++v) {
        const u64 stub = layout::handler + 16 * v;
        gates[v - first_vector] = client::interrupt_gate(stub);
    }
    guest.write(layout::idt + 16 * first_vector, {reinterpret_cast<const u8*>(gates.data()), sizeof gates});
    forget_arrivals(guest);
}

void forget_arrivals(Guest& guest) {
    guest.fill(journal, 0, 0, 1, false);
}

void clear_page(Guest& guest) {
    guest.fill(page, 0, 0, page_size / 8, false);
}

void put(Guest& guest, u32 offset, u32 value) {
    guest.write(page + offset, {reinterpret_cast<const u8*>(&value), sizeof value});
}

void put_vectors(Guest& guest, u32 offset, Vectors vectors) {
    std::array<u32, 8> words{};
    for (const unsigned v : vectors) {
        words[v / 32] |= 1u << v % 32;
    }
    for (unsigned i = 0; i < 8; ++i) {
        put(guest, offset + 16 * i, words[i]);
    }
}

void put_status(Guest& guest, unsigned svi, unsigned rvi) {
    guest.field(interrupt_status, 2, svi << 8 | rvi);
}

void put_eoi_exits(Guest& guest, Vectors vectors) {
    std::array<u64, 4> words{};
    for (const unsigned v : vectors) {
        words[v / 64] |= u64{1} << v % 64;
    }
    for (u32 i = 0; i < 4; ++i) {
        guest.field(eoi_exit_bitmap_0 + 2 * i, 8, words[i]);
    }
}

std::vector<Arrival> arrivals(Guest& guest) {
    const u64 count = guest.read64(journal, 1)[0];
    std::vector<Arrival> out;
    if (count != 0) {
        const auto words = guest.read64(journal + 16, 2 * count);
        for (u64 i = 0; i < count; ++i) {
            out.push_back({words[2 * i], words[2 * i + 1]});
        }
    }
    return out;
}

u32 left(Guest& guest, u32 offset) {
    return static_cast<u32>(guest.read64(page + (offset & ~7u), 1)[0] >> (offset % 8) * 8);
}

std::vector<unsigned> vectors_left(Guest& guest, u32 offset) {
    const auto words = guest.read64(page + offset, 16);
    std::vector<unsigned> out;
    for (unsigned v = 0; v < 256; ++v) {
        if ((words[word_of(0, v) / 8] >> v % 32 & 1) != 0) {
            out.push_back(v);
        }
    }
    return out;
}

unsigned svi_left(Guest& guest) {
    return static_cast<unsigned>(guest.read_field(interrupt_status, 2, false) >> 8 & 0xff);
}

unsigned rvi_left(Guest& guest) {
    return static_cast<unsigned>(guest.read_field(interrupt_status, 2, false) & 0xff);
}

} // namespace apic

} // namespace refhv::front
