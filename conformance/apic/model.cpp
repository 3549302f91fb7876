// SPDX-License-Identifier: MIT
// VMX: thousands of random requests, EOIs and priorities, made by a guest that nothing exits from, against a
// model of the virtual APIC (SDM 3C 30.1, 30.2): which interrupts came, in which step, and what was left.
#include "conformance/apic/case.hpp"

#include <random>
#include <set>

namespace refhv::front {

using client::Guest;

namespace {

enum Operation : u32 {
    request, // self-IPI, value: the vector
    set_tpr, // value: VTPR
    set_cr8, // value: CR8
    end,     // EOI
    enable,  // STI
    disable, // CLI
};

struct Step {
    u32 operation; // the guest puts here how many interrupts have come by the end of the step
    u32 value;
};

// Steps are taken one after the other. STI and the writes have a NOP behind them, where the interrupt may
// come.
#define TAKE_STEPS(by_request, by_tpr, by_end)                                                               \
    "mov " REFHV_ASM(                                                                                        \
        REFHV_PARAMETER_COUNT) ", %r12d\n"                                                                   \
                               "mov $" REFHV_ASM(                                                            \
                                   REFHV_APIC_STEPS) ", %r13d\n"                                             \
                                                     "1: mov (%r13), %ebx\n mov 4(%r13), %eax\n xor %edx, "  \
                                                     "%edx\n"                                                \
                                                     "cmp $0, %ebx\n jne 2f\n" by_request "\n jmp 9f\n"      \
                                                     "2: cmp $1, %ebx\n jne 2f\n" by_tpr "\n jmp 9f\n"       \
                                                     "2: cmp $2, %ebx\n jne 2f\n mov %rax, %cr8\n jmp 9f\n"  \
                                                     "2: cmp $3, %ebx\n jne 2f\n xor %eax, %eax\n" by_end    \
                                                     "\n jmp 9f\n"                                           \
                                                     "2: cmp $4, %ebx\n jne 2f\n sti\n jmp 9f\n"             \
                                                     "2: cli\n"                                              \
                                                     "9: nop\n nop\n"                                        \
                                                     "mov " REFHV_ASM(                                       \
                                                         REFHV_APIC_JOURNAL) ", %eax\n mov %eax, (%r13)\n"   \
                                                                             "add $8, %r13\n dec %r12d\n "   \
                                                                             "jnz 1b"
#define BY_MSR(number) "mov $" number ", %ecx\n wrmsr"
#define BY_STORE(offset) "mov %eax, " REFHV_ASM(REFHV_APIC_ACCESS) "+" offset
GUEST(steps_by_msr, TAKE_STEPS(BY_MSR("0x83f"), BY_MSR("0x808"), BY_MSR("0x80b")))
GUEST(steps_by_store, TAKE_STEPS("or $0x40000, %eax\n" BY_STORE("0x300"), BY_STORE("0x80"), BY_STORE("0xb0")))

std::vector<Step> random_steps(unsigned seed) {
    constexpr usize count = 4000;
    std::mt19937 random(seed);
    std::vector<Step> steps;
    for (usize i = 0; i < count; ++i) {
        const u32 choice = static_cast<u32>(random()) % 100, value = static_cast<u32>(random());
        if (choice < 35) {
            steps.push_back({request, apic::first_vector + value % (256 - apic::first_vector)});
        } else if (choice < 65) {
            steps.push_back({end, 0});
        } else if (choice < 75) {
            steps.push_back({set_tpr, value % 256});
        } else if (choice < 80) {
            steps.push_back({set_cr8, value % 16});
        } else {
            steps.push_back({choice < 93 ? enable : disable, 0});
        }
    }
    // So that it ends with nothing held back but by what is in service.
    steps.insert(steps.end(), {{set_tpr, 0}, {enable, 0}});
    return steps;
}

struct Model {
    std::set<unsigned> irr, isr;
    unsigned vtpr = 0;
    bool enabled = false;
    std::vector<unsigned> arrived{};

    static unsigned highest(const std::set<unsigned>& of) { return of.empty() ? 0 : *of.rbegin(); }
    [[nodiscard]] unsigned priority() const {
        const unsigned svi = highest(isr);
        return vtpr >> 4 >= svi >> 4 ? vtpr : svi & 0xf0;
    }
    void take(const Step& s) {
        switch (s.operation) {
        case request:
            irr.insert(s.value);
            break;
        case set_tpr:
            vtpr = s.value;
            break;
        case set_cr8:
            vtpr = s.value << 4;
            break;
        case end:
            isr.erase(highest(isr));
            break;
        default:
            enabled = s.operation == enable;
        }
        while (enabled && highest(irr) >> 4 > priority() >> 4) {
            const unsigned vector = highest(irr);
            irr.erase(vector);
            isr.insert(vector);
            arrived.push_back(vector);
        }
    }
};

} // namespace

class ApicModel : public Apic {
  protected:
    static void expect_as_modelled(apic::Controls controls, client::GuestCode code) {
        u64 taken = 0;
        for (const unsigned seed : {1u, 2u, 3u}) {
            SCOPED_TRACE(testing::Message() << "seed " << seed);
            auto steps = random_steps(seed);
            Guest guest(host(), plan());
            guest.load(code);
            apic::virtualize(guest, controls);
            apic::handle(guest, apic::Handler::iret);
            guest.write(apic::steps,
                        {reinterpret_cast<const u8*>(steps.data()), steps.size() * sizeof(Step)});
            const auto r = guest.run({.rounds = steps.size()});
            expect_stopped(r);
            ASSERT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
            EXPECT_EQ(r.reply.entries, 1u) << "nothing exits but the stop";

            Model model;
            const auto counts = guest.read64(apic::steps, steps.size());
            for (usize i = 0; i < steps.size(); ++i) {
                model.take(steps[i]);
                ASSERT_EQ(static_cast<u32>(counts[i]), model.arrived.size())
                    << "step " << i << ", operation " << steps[i].operation << ", value " << steps[i].value;
            }
            std::vector<unsigned> came;
            for (const Arrival& a : apic::arrivals(guest)) {
                came.push_back(static_cast<unsigned>(a.vector));
            }
            EXPECT_EQ(came, model.arrived);
            using List = std::vector<unsigned>;
            EXPECT_EQ(apic::vectors_left(guest, apic::irr), List(model.irr.begin(), model.irr.end()))
                << "VIRR";
            EXPECT_EQ(apic::vectors_left(guest, apic::isr), List(model.isr.begin(), model.isr.end()))
                << "VISR";
            EXPECT_EQ(apic::left(guest, apic::tpr), model.vtpr) << "VTPR";
            EXPECT_EQ(apic::left(guest, apic::ppr), model.priority()) << "VPPR";
            EXPECT_EQ(apic::svi_left(guest), Model::highest(model.isr)) << "SVI";
            EXPECT_EQ(apic::rvi_left(guest), Model::highest(model.irr)) << "RVI";
            taken += steps.size();
        }
        combinations(taken);
    }
};

TEST_F(ApicModel, vmx_random_steps_by_msr_leave_what_the_model_says) {
    claim({.sdm = "SDM 3C 30.1.2 to 30.1.5, 30.2, 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_as_modelled(needed, steps_by_msr);
    });
}

TEST_F(ApicModel, vmx_random_steps_by_store_leave_what_the_model_says) {
    claim({.sdm = "SDM 3C 30.1.2 to 30.1.5, 30.2, 30.4.3"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_as_modelled(needed, steps_by_store);
    });
}

TEST_F(ApicModel, vmx_random_steps_by_store_with_register_virtualization) {
    claim({.sdm = "SDM 3C 30.1.2 to 30.1.5, 30.2, 30.4.3"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::registers,
                                               apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_as_modelled(needed, steps_by_store);
    });
}

} // namespace refhv::front
